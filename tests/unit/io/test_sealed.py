"""What is kept between two starts and gets damaged: named in one line, and made anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from parrot.data.conversations import load
from parrot.data.feature_store import Features, digests_of, remember, stored, write_block
from parrot.errors import UserError
from parrot.io.digests import append_line, read_lines, read_record, write_record
from parrot.model import ParrotImageProcessor, ParrotProcessor
from parrot.train.checkpoints import COMPLETE, METRICS, identities, latest_valid, mark_complete
from tests.helpers.tiny_training import write_backbones, write_set

VALUES = [{"step": 1, "text": "ж\u2028"}, [0.1, None, float("inf")], {}]


def flipped(content: bytes, place: int) -> bytes:
    """`content` with its bits turned in the byte at `place`."""
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-9],
    "cut in the middle": lambda content: content[: len(content) // 2],
    "flipped": lambda content: flipped(content, len(content) // 2),
    "head flipped": lambda content: flipped(content, 4),
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: b"\xff{]\n",
    "other JSON": lambda content: b'{"value": []}\n',
    "longer": lambda content: content + b"\n",
}
damaged = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)


def spoil(path: Path, damage: Callable[[bytes], bytes]) -> None:
    path.write_bytes(damage(path.read_bytes()))


def one_line(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


# --- records and lines -----------------------------------------------------------------------------------------------


@damaged
def test_a_damaged_record_is_none(damage, tmp_path, capsys):
    path = tmp_path / "record.json"
    write_record(path, VALUES)
    assert read_record(path, "it is rebuilt") == VALUES
    assert json.loads(path.read_text())["value"] == VALUES
    spoil(path, damage)
    assert read_record(path, "it is rebuilt") is None
    assert one_line(capsys) == [f"parrot: warning: {path}: damaged; it is rebuilt"]


@pytest.mark.parametrize("place", range(3))
def test_a_flipped_line_is_left_out_once_and_the_others_stay(place, tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    for value in VALUES:
        append_line(path, value)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[place] = flipped(lines[place], 30)
    path.write_bytes(b"".join(lines))
    left = VALUES[:place] + VALUES[place + 1 :]
    assert read_lines(path, mine=False) == left
    (line,) = one_line(capsys)
    assert line.startswith(f"parrot: warning: {path}: damaged; 1 of 3 lines are left out")
    append_line(path, "more")
    assert read_lines(path, mine=False) == [*left, "more"]
    assert not one_line(capsys)


@pytest.mark.parametrize("left", [0, 1, 40])
def test_a_last_line_that_was_cut_is_left_out_without_a_word_and_mine_goes_on_behind_it(left, tmp_path, capsys):
    path = tmp_path / "lines.jsonl"
    append_line(path, VALUES[0])
    whole = path.read_bytes()
    append_line(path, VALUES[1])
    cut = path.read_bytes()[: len(whole) + left]
    path.write_bytes(cut)
    assert read_lines(path, mine=False) == VALUES[:1]
    assert path.read_bytes() == cut  # another process may be writing
    assert read_lines(path, mine=True) == VALUES[:1]
    append_line(path, VALUES[2])
    assert read_lines(path, mine=False) == [VALUES[0], VALUES[2]]
    assert not one_line(capsys)


# --- tokenised sets --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    write_backbones(folder)
    images = ParrotImageProcessor.from_pretrained(folder / "clip")
    return ParrotProcessor(images, AutoTokenizer.from_pretrained(folder / "qwen"), num_image_tokens=5)


@damaged
@pytest.mark.parametrize("part", ["*.arrow", "*.json"])
def test_a_damaged_tokenised_set_is_named_and_tokenised_anew(part, damage, processor, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("parrot.data.conversations.ROWS_PER_BLOCK", 4)
    entry, cache = write_set(tmp_path, "en", count=9), tmp_path / "cache"
    rows = load((entry,), processor, cache, 512)[:]
    (path,) = cache.glob(part)
    whole = path.read_bytes()
    spoil(path, damage)
    assert load((entry,), processor, cache, 512)[:] == rows
    assert path.read_bytes() == whole
    (table,) = cache.glob("*.arrow")
    assert one_line(capsys) == [f"parrot: warning: {table}: damaged; it is rebuilt"]


def test_a_tokenised_set_that_ends_behind_a_batch_is_not_whole(processor, tmp_path, monkeypatch):
    """Arrow reads what there is, without a word."""
    entries = []
    for count in (4, 9):
        (tmp_path / f"{count}").mkdir()
        entries.append(write_set(tmp_path / f"{count}", "en", count=count))
    monkeypatch.setattr("parrot.data.conversations.ROWS_PER_BLOCK", 4)
    cache = tmp_path / "cache"
    rows = load((entries[1],), processor, cache, 512)[:]
    (path,) = cache.glob("*.arrow")
    load((entries[0],), processor, tmp_path / "short", 512)
    (short,) = (tmp_path / "short").glob("*.arrow")
    path.write_bytes(short.read_bytes())
    assert load((entries[1],), processor, cache, 512)[:] == rows


# --- features --------------------------------------------------------------------------------------------------------

SHAPE = (5, 16)


@pytest.fixture
def block(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    features = torch.randn(3, *SHAPE)
    write_block(tmp_path, ["a", "b", "c"], features)
    (path,) = tmp_path.glob("*.safetensors")
    return path, features


@pytest.mark.parametrize("damage", ["empty", "cut", "cut in the middle", "head flipped", "garbage", "longer"])
def test_a_cut_block_of_features_is_removed_and_computed_anew(damage, block, capsys):
    path, _ = block
    spoil(path, DAMAGE[damage])
    assert stored(path.parent) == {}
    assert one_line(capsys) == [f"parrot: warning: {path}: damaged; its features are computed again"]
    assert not path.exists()


def test_a_flipped_row_of_features_is_told_when_it_is_read_and_its_block_goes(block):
    path, features = block
    spoil(path, lambda content: flipped(content, len(content) - 4 * SHAPE[0] * SHAPE[1] - 1))  # the end of row 1
    read = Features(stored(path.parent), SHAPE, torch.float32)
    assert torch.equal(read(["a", "c"]), features[[0, 2]])
    with pytest.raises(UserError, match=rf"^{path}: damaged, and removed; expected .*: start again"):
        read(["b"])
    assert stored(path.parent) == {}


@damaged
def test_damaged_digests_of_images_are_taken_again(damage, tmp_path, capsys):
    (tmp_path / "a").write_bytes(b"one")
    known = tmp_path / "known"
    remember(digests_of([str(tmp_path / "a")], known), known)
    spoil(known, damage)
    assert digests_of([str(tmp_path / "a")], known) == digests_of([str(tmp_path / "a")], tmp_path / "none")
    assert one_line(capsys) == [f"parrot: warning: {known}: damaged; all images are read again"]


# --- checkpoints -----------------------------------------------------------------------------------------------------

PARTS = ("model.safetensors", "shards/__0_0.distcp", METRICS)


def save(folder: Path, step: int) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    for part in PARTS:
        (checkpoint / part).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / part).write_bytes(f"{part} of step {step}".encode())
    mark_complete(checkpoint, "ddp", 1, identities(checkpoint, PARTS))
    return checkpoint


@damaged
@pytest.mark.parametrize("part", [*PARTS, COMPLETE])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(part, damage, tmp_path, capsys):
    before, last = save(tmp_path, 5), save(tmp_path, 10)
    assert latest_valid(tmp_path) == last
    spoil(last / part, damage)
    assert latest_valid(tmp_path) == before
    assert one_line(capsys) == [f"parrot: warning: {last / part}: damaged; training resumes from checkpoint-5"]
    assert list(tmp_path.iterdir()) == [before], "retention would count a damaged one"


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_that_lost_a_part_is_damaged_and_after_the_last_one_training_starts_anew(part, tmp_path, capsys):
    only = save(tmp_path, 5)
    (only / part).unlink()
    assert latest_valid(tmp_path) is None
    assert one_line(capsys) == [f"parrot: warning: {only / part}: damaged; training starts over"]


def test_what_is_in_a_checkpoint_s_place_is_removed(tmp_path, capsys):
    before = save(tmp_path, 5)
    (tmp_path / "checkpoint-10").write_text("a file")
    (tmp_path / "checkpoint-15").symlink_to(tmp_path / "nowhere")
    assert latest_valid(tmp_path) == before
    assert list(tmp_path.iterdir()) == [before]
    assert not one_line(capsys)
