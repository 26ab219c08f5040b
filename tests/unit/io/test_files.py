"""JSON files that users may have to mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from parrot.data.tsv import read_tsv
from parrot.errors import UserError
from parrot.io.files import CHUNK, network_file_system, new_folder, read_content, read_json, read_object, real_path


@pytest.mark.parametrize("read", [read_json, read_object])
def test_a_missing_or_malformed_file_is_one_line(tmp_path: Path, read) -> None:
    path = tmp_path / "provenance.json"
    with pytest.raises(UserError, match=r"provenance\.json: cannot be read: No such file or directory$"):
        read(path)
    for content in (b"", b"{", b"[1,]", b"[" * 100_000, b"[" + b"1" * 5000 + b"]"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"provenance\.json: expected JSON: [^\n]+$"):
            read(path)


@pytest.mark.parametrize("read", [read_json, read_tsv])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: expected a regular file, found a named pipe$"):
        read(tmp_path / "pipe")


def test_zeros_are_refused_at_the_first_one_whatever_their_number(tmp_path: Path) -> None:
    path = tmp_path / "lost.tsv"
    path.write_bytes(b"index\n" * (CHUNK // 6 + 1))
    assert read_content(path) == path.read_bytes()
    os.truncate(path, 1 << 40)  # a hole on the disk, more than any memory
    with pytest.raises(UserError, match=rf"lost\.tsv: line {CHUNK // 6 + 2}: expected text, found a zero byte$"):
        read_content(path)


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    assert real_path(tmp_path / "circle" / "x") == tmp_path / "circle" / "x"
    assert network_file_system(tmp_path / "circle") == network_file_system(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1,\n "b": "fran\xe7ais"}', "line 2, byte 12: expected text in UTF-8, found 0xe7"),
        ('{"a": 1}'.encode("utf-16"), "line 1, byte 1: expected text in UTF-8, found 0xff"),
        (b'{"a": {"x": 1},\n "b": [{"x": 1}, {"y": "{",\n"\\u0079": 2}]}', "line 3: y is there twice; expected"),
        (b'{"a": "\\ud800"}', "expected text, found half of a surrogate pair"),
    ],
)
def test_another_encoding_and_doubled_names_are_told_by_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"settings\.json: {said}[^\n]*$"):
        read_json(tmp_path / "settings.json")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_bytes(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}')
    assert read_json(tmp_path / "settings.json") == {"a": "😀"}


def test_another_value_than_an_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "provenance.json"
    path.write_text("[]")
    assert read_json(path) == []
    with pytest.raises(UserError, match=r"provenance\.json: expected a JSON object, found list$"):
        read_object(path)
    path.write_text('{"seed": 0}')
    assert read_object(path) == {"seed": 0}


def test_weights_can_be_read_by_whom_the_folder_lets_in(tmp_path: Path):
    with new_folder(tmp_path / "model") as partial:
        save_file({"a": torch.zeros(1)}, partial / "model.safetensors")
        (partial / "config.json").write_text("{}")
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 1
