"""What machine and user did to a command is one line, whichever library tells it and however it ends."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader

from parrot.errors import UserError, naming, one_line
from parrot.io import files
from parrot.io.digests import append_line
from parrot.io.files import atomic_path, atomic_write, check_folder, new_folder, replace
from parrot.train.distributed import plain_errors

FULL = Path("/dev/full")


def said(action: Callable[[], object]) -> str | None:
    """The line that a user reads of what `action` raises."""
    try:
        action()
    except Exception as error:
        return one_line(error)
    pytest.fail("nothing was raised")


def write_arrow(path: Path) -> None:
    with pa.ipc.new_stream(path, pa.schema({"a": pa.int64()})) as writer:
        writer.write_batch(pa.RecordBatch.from_pydict({"a": range(100_000)}))


@pytest.mark.parametrize("write", [write_arrow, lambda path: path.write_text("short")], ids=["arrow", "text"])
def test_a_full_disk_names_the_file_that_was_meant(write, tmp_path: Path):
    path = tmp_path / "scores.csv"

    def write_whole() -> None:
        with atomic_path(path) as partial:
            partial.symlink_to(FULL)
            write(partial)

    assert said(write_whole) == f"{path}: No space left on device"
    assert not any(tmp_path.iterdir())


def test_a_full_disk_names_a_file_that_grows(tmp_path: Path):
    (tmp_path / "0.jsonl").symlink_to(FULL)
    line = f"{tmp_path}/0.jsonl: No space left on device"
    assert said(lambda: append_line(tmp_path / "0.jsonl", {"places": []})) == line


def test_an_archive_that_torch_cannot_write_names_it_too(tmp_path: Path):
    path = tmp_path / "optimizer.pt"
    path.symlink_to(FULL)
    save = naming(path)(lambda: torch.save(torch.zeros(1_000_000), path))
    assert said(save) == f"{path}: Input/output error"  # all that torch says; the disk itself is not full


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (RuntimeError("unable to write to file </torch_1>: Disk quota exceeded (122)"), errno.EDQUOT),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT]"), errno.ENOSPC),
        (OSError(errno.EDQUOT, "Error writing bytes to file. Detail: [errno 122] Disk quota exceeded"), errno.EDQUOT),
    ],
)
def test_other_libraries_words_are_the_systems(error, word):
    @naming("model")
    def save() -> None:
        raise error

    assert said(save) == f"model: {os.strerror(word)}"


def test_the_systems_error_in_a_loading_process_is_told_as_in_the_training(tmp_path: Path):
    loader = DataLoader([tmp_path / "a"], batch_size=None, collate_fn=Path.read_bytes, num_workers=1)
    assert said(plain_errors()(lambda: list(loader))) == f"{tmp_path}/a: No such file or directory"


def test_an_error_of_ours_keeps_its_traceback():
    assert one_line(KeyError("language")) is None
    with pytest.raises(KeyError), naming("model"):
        raise KeyError("language")


@pytest.mark.parametrize("kind", ["folder", "below a file", "too long", "new folder over a file"])
def test_a_path_of_the_wrong_kind_is_named_as_it_was_given(kind, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("whole")
    write, path, word = {
        "folder": (lambda path: atomic_write(path, ""), tmp_path / "folder", "Is a directory"),
        "below a file": (lambda path: atomic_write(path, ""), tmp_path / "file/a.json", "File exists"),
        "too long": (lambda path: atomic_write(path, ""), tmp_path / ("a" * 300), "File name too long"),
        "new folder over a file": (lambda path: new_folder(path).__enter__(), tmp_path / "file", "Not a directory"),
    }[kind]
    named = tmp_path / "file" if kind == "below a file" else path
    assert re.fullmatch(rf"{named}: ([^\n]+: )?{word}", str(said(lambda: write(path))))
    assert (tmp_path / "file").read_text() == "whole"


def test_the_longest_name_that_a_file_may_have_can_be_written(tmp_path: Path):
    path = tmp_path / f"{'a' * 250}.json"
    atomic_write(path, "whole")
    assert path.read_text() == "whole"


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path: Path):
    check_folder(tmp_path / "made/later")
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match=rf"^{tmp_path}/file: cannot be written to: Not a directory$"):
            check_folder(path)


def failing(monkeypatch, number: int, times: int):
    """`os.replace` that fails with the error `number` so many times; the calls that it got."""
    calls, real = [], os.replace

    def attempt(source, target):
        calls.append((source, target))
        if len(calls) <= times:
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", attempt)
    monkeypatch.setattr(files, "SECONDS_BETWEEN_TRIES", (0, 0))
    return calls


def test_a_stale_handle_is_tried_again_and_told_in_the_end(monkeypatch, tmp_path: Path):
    path = tmp_path / "a.json"
    failing(monkeypatch, errno.ESTALE, times=2)
    atomic_write(path, "new")
    assert path.read_text() == "new"
    failing(monkeypatch, errno.ESTALE, times=99)
    assert said(lambda: atomic_write(path, "newer")) == f"{path}: Stale file handle"
    assert [each.read_text() for each in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_lies_on_another_file_system_is_copied_beside_its_target(folder, monkeypatch, tmp_path: Path):
    source, target = tmp_path / "there", tmp_path / "here/target"
    target.parent.mkdir()
    if folder:
        source.mkdir()
    (source / "a" if folder else source).write_text("whole")
    failing(monkeypatch, errno.EXDEV, times=1)
    replace(source, target)
    assert (target / "a" if folder else target).read_text() == "whole"
    assert not source.exists()
    assert list(target.parent.iterdir()) == [target]


def command(body: str, **given) -> subprocess.Popen[str]:
    """A command of its own whose body is `body`."""
    script = f"from parrot.errors import in_one_line\nimport sys, time\nwith in_one_line():\n    {body}"
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, **given)


def test_text_that_the_terminal_cannot_show_is_escaped():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    with command("print('попугай')", stdout=subprocess.PIPE, env=environment) as done:
        assert done.communicate() == ("".join(f"\\u{ord(letter):04x}" for letter in "попугай") + "\n", "")
    assert done.returncode == 0


def test_a_reader_that_leaves_and_a_full_disk_end_what_is_printed():
    reading, writing = os.pipe()
    os.close(reading)
    with command("print('a')", stdout=writing) as done:
        assert done.communicate()[1] == ""
    assert done.returncode == 141
    os.close(writing)
    with FULL.open("w") as full, command("print('a')", stdout=full) as done:
        assert done.communicate()[1] == "parrot: error: No space left on device\n"
    assert done.returncode == 1


def test_an_interrupt_is_one_line():
    with command("print(flush=True); time.sleep(60)", stdout=subprocess.PIPE) as done:
        assert done.stdout.readline() == "\n"
        done.send_signal(signal.SIGINT)
        assert done.communicate()[1] == "parrot: interrupted\n"
    assert done.returncode == 130


def test_streams_that_are_closed_are_empty():
    body = "print(sys.stdin.isatty(), sys.stdin.read(), flush=True); print('a', file=sys.stderr, flush=True)"
    with command(body, preexec_fn=lambda: os.closerange(0, 3)) as done:
        assert done.wait() == 0
    with command(body, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(0)) as done:
        assert done.communicate() == ("False \n", "a\n")


def test_standard_input_is_utf_8():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    with command("print(ascii(input()))", stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as done:
        assert done.communicate("çilek")[0] == "'\\xe7ilek'\n"
