"""Faulty samples of conversation sets: check and training find the same, and name file, sample and turn."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parrot.config import limits
from parrot.config.catalog import Accepted, BackboneFolder, ConversationSet
from parrot.config.limits import Limits
from parrot.config.stages import Tokenisation
from parrot.data.conversations import load
from parrot.errors import UserError
from parrot.fetch.integrity import Reader, inspect, inspect_set
from parrot.model.processing_parrot import ParrotProcessor, processor_of
from tests.helpers.tiny_training import write_backbones, write_set

Change = Callable[[list[dict[str, Any]]], Any]
MAX_LENGTH = 160
LEFT_OUT = "leaves out such samples"


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbones")
    write_backbones(folder)
    return folder


@pytest.fixture(scope="module")
def processor(backbones: Path) -> ParrotProcessor:
    return processor_of(backbones / "clip", backbones / "qwen", "cls_patch")


def edited(folder: Path, *changes: Change, **fields: Any) -> ConversationSet:
    """Ten samples, the fifth and the tenth of text alone, then changed."""
    entry = write_set(folder, "my", count=10, **fields)
    samples = json.loads(Path(entry.file).read_text())
    for change in changes:
        change(samples)
    Path(entry.file).write_text(json.dumps(samples))
    return entry


def turn(number: int, place: int = 2, **fields: Any) -> Change:
    """Change a turn of a sample, both counted from 0."""
    return lambda samples: samples[place]["conversations"][number].update(fields)


def say(place: int, *turns: tuple[str, str]) -> Change:
    said = [{"from": speaker, "value": value} for speaker, value in turns]
    return lambda samples: samples[place].update(conversations=said)


def both(entry: ConversationSet, processor: ParrotProcessor, folder: Path) -> str:
    """The one problem of a set, as the check finds it and training stops at it."""
    (problem,) = inspect_set(entry, [Reader(processor, MAX_LENGTH)]).problems
    with pytest.raises(UserError) as raised:
        load((entry,), processor, folder / "cache", MAX_LENGTH)
    assert str(raised.value) == problem
    assert not list((folder / "cache").glob("*.arrow"))
    assert "\n" not in problem
    problem.encode()
    return problem.removeprefix(f"{entry.file}: ")


@pytest.mark.parametrize(
    ("change", "step_fault"),
    [
        (lambda s: s.insert(0, "x"), "sample number 0: expected an object with id and conversations, found str"),
        (lambda s: s[2].pop("id"), "sample number 2: id is missing"),
        (lambda s: s[2].update(id=None), "sample number 2: id: expected text or a whole number, found nothing"),
        (lambda s: s[2].update(id=1.0), "sample number 2: id: expected text or a whole number, found float"),
        (lambda s: s[2].update(id=True), "sample number 2: id: expected text or a whole number, found bool"),
        (lambda s: s[2].update(id=" "), "sample number 2: id: expected text or a whole number, found ' '"),
        (lambda s: s[2].pop("conversations"), "sample my-2: conversations: expected a list of turns, found nothing"),
        (
            lambda s: s[2].update(conversations=[]),
            "sample my-2: conversations: expected a list of turns, found an empty list",
        ),
        (
            lambda s: s[2].update(conversations=["hello"]),
            "sample my-2: turn 1: expected an object with from and value, found 'hello'",
        ),
        (turn(1, **{"from": "user"}), "sample my-2: turn 2: from: expected system, human or gpt, found 'user'"),
        (turn(1, value=["x"]), "sample my-2: turn 2: value: expected text, found list"),
        (lambda s: s[2].update(image=None), "sample my-2: image: expected a file name, found nothing"),
        (lambda s: s[2].update(image=["a.png"]), "sample my-2: image: expected a file name, found list"),
        (
            lambda s: s[2].update(image="x" * 5000),
            f"sample my-2: image: expected a file name, found '{'x' * 40}'",
        ),
        (lambda s: s[2].update(image=""), "sample my-2: image: expected a file name, found ''"),
        (lambda s: s[2].update(image="a\0.png"), r"sample my-2: image: expected a file name, found 'a\x00.png'"),
        (
            lambda s: s[2].update(image="../a.png"),
            "sample my-2: image: expected a path within the set's image folder, found ../a.png",
        ),
        (
            lambda s: s[2].update(image="/a.png"),
            "sample my-2: image: expected a path within the set's image folder, found /a.png",
        ),
    ],
)
def test_a_sample_that_is_none_is_named(change, step_fault, processor, tmp_path):
    assert both(edited(tmp_path, change), processor, tmp_path) == step_fault


@pytest.mark.parametrize(
    ("kind", "change", "step_fault"),
    [
        (
            "image_mark_misplaced",
            turn(1, value="a <image>"),
            "turn 2: expected <image> in human turns alone, found by gpt",
        ),
        (
            "image_mark_misplaced",
            say(4, ("system", "See <image>"), ("human", "?"), ("gpt", "!")),
            "turn 1: expected <image> in human turns alone, found by system",
        ),
        (
            "image_mark_misplaced",
            turn(0, 4, value="<image> ?"),
            "turn 1: expected no <image>, as the sample has no image",
        ),
        (
            "image_mark_misplaced",
            turn(0, value="<image>, <image> ?"),
            "turn 1: expected 1 <image> in a sample, found 2",
        ),
        (
            "image_mark_missing",
            turn(0, value="?"),
            "conversations: expected 1 <image> for the sample's image, found none",
        ),
        (
            "nothing_supervised",
            lambda s: s[2]["conversations"].pop(),
            "expected supervised tokens, found none",
        ),
        (
            "nothing_supervised",
            turn(0, value="<image> " + "x" * 200),
            "expected supervised tokens within max_length 160, found none",
        ),
        (
            "image_cut",
            say(2, ("human", "?"), ("gpt", "x" * 200), ("human", "<image>"), ("gpt", "!")),
            "its visual tokens do not fit into max_length 160",
        ),
        ("blank_turn", turn(1, value=" \n"), "turn 2: value: expected text, found none but blanks"),
        ("blank_turn", turn(0, 4, value=""), "turn 1: value: expected text, found none but blanks"),
        (
            "turn_order",
            say(4, ("gpt", "!"), ("human", "?"), ("gpt", "!")),
            "turn 1: expected a human turn before the first answer",
        ),
        (
            "turn_order",
            say(4, ("system", "a"), ("system", "b"), ("human", "?"), ("gpt", "!")),
            "turn 2: expected a system turn first or not at all",
        ),
        (
            "lone_surrogate",
            turn(1, value="ok \ud83d"),
            "turn 2: value: \\ud83d is half of a character (character 4)",
        ),
        (
            "lone_surrogate",
            lambda s: s[2].update(image="\udc00.png"),
            "image: \\udc00 is half of a character (character 1)",
        ),
        (
            "over_limit",
            turn(1, value="é" * 300),
            "turn 2: value: expected at most 512 bytes (limits.text_bytes), found 600",
        ),
    ],
)
def test_a_faulty_sample_is_refused_by_check_and_training_unless_accepted(
    kind, change, step_fault, processor, tmp_path, monkeypatch
):
    monkeypatch.setattr(limits, "_of_config", Limits(text_bytes=512))
    entry = edited(tmp_path, change)
    problem = both(entry, processor, tmp_path)
    assert problem.startswith(f"sample my-{problem[10]}: {step_fault}; accept.{kind} of count 1 {LEFT_OUT}")
    accepting = entry.model_copy(update={"accept": {kind: Accepted(count=1, reason="known")}})
    found = inspect_set(accepting, [Reader(processor, MAX_LENGTH)])
    assert (found.problems, found.counts[kind], len(found.left_out)) == ([], 1, 1)
    rows = load((accepting,), processor, tmp_path / "cache", MAX_LENGTH)
    assert len(rows) == 9
    assert found.counts["supervised_tokens"] == sum(rows["supervised"])


@pytest.mark.parametrize(
    ("identifier", "step_fault"),
    [
        ("\ud83d", "lone_surrogate of count 1"),
        ("x" * 1025, "id: expected at most 1024 characters (limits.id_characters), found 1025"),
        (10**1024, "id: expected at most 1024 characters (limits.id_characters), found 1025"),
    ],
)
def test_an_id_that_cannot_be_named_is_told_by_its_place(identifier, step_fault, processor, tmp_path):
    problem = both(edited(tmp_path, lambda s: s[2].update(id=identifier)), processor, tmp_path)
    assert problem.startswith("sample number 2: id: ")
    assert step_fault in problem
    assert len(problem) < 200


def test_ids_that_cannot_be_named_are_not_counted(processor, tmp_path):
    entry = edited(tmp_path, *(lambda s, place=place: s[place].update(id="\ud83d") for place in (1, 2)))
    assert both(entry, processor, tmp_path).startswith("sample number 1: id: ")


def test_ids_may_be_whole_numbers_and_are_unique_as_texts(processor, tmp_path):
    entry = edited(tmp_path, lambda s: s[0].update(id=7), lambda s: s[1].update(id="7"))
    assert inspect_set(entry, []).problems == [f"{entry.file}: id: 7 occurs more than once"]
    assert load((entry,), processor, tmp_path / "cache", MAX_LENGTH)["id"][:2] == ["7", "7"]


def test_all_faulty_samples_are_counted_and_the_first_ones_named(processor, tmp_path):
    marks = [turn(1, place, value="<image>") for place in range(1, 6)]
    entry = edited(tmp_path, *marks, turn(1, 7, value=""), turn(1, 8, value=""), lambda s: s[9].pop("id"))
    problems = inspect_set(entry, [Reader(processor, MAX_LENGTH)]).problems
    marked = "sample my-1: turn 2: expected <image> in human turns alone, found by gpt; 4 more: my-2, my-3, ..."
    assert problems == [
        f"{entry.file}: {marked}; accept.image_mark_misplaced of count 5 {LEFT_OUT}",
        f"{entry.file}: sample my-7: turn 2: value: expected text, found none but blanks; 1 more: my-8; "
        f"accept.blank_turn of count 2 {LEFT_OUT}",
        f"{entry.file}: sample number 9: id is missing",
    ]
    with pytest.raises(UserError, match=r"my-1: turn 2: .* \(and 2 more problems\)$"):
        load((entry,), processor, tmp_path / "cache", MAX_LENGTH)


@pytest.mark.parametrize(("stated", "found"), [(2, 1), (1, 0)])
def test_another_count_than_the_accepted_one_is_refused(stated, found, processor, tmp_path):
    changes = [turn(1, value=" ")] * found
    entry = edited(tmp_path, *changes, accept={"blank_turn": {"count": stated, "reason": "known"}})
    problem = both(entry, processor, tmp_path)
    assert problem.startswith(f"accept.blank_turn: expected {stated} such samples, found {found}")


def test_an_accepted_count_that_changes_makes_the_cache_stale(processor, tmp_path):
    entry = edited(tmp_path, turn(1, value=" "), accept={"blank_turn": {"count": 1, "reason": "known"}})
    load((entry,), processor, tmp_path / "cache", MAX_LENGTH)
    with pytest.raises(UserError, match="expected 2 such samples, found 1"):
        load(
            (entry.model_copy(update={"accept": {"blank_turn": Accepted(count=2, reason="known")}}),),
            processor,
            tmp_path / "cache",
            MAX_LENGTH,
        )


@pytest.mark.parametrize(
    ("change", "fields", "step_fault"),
    [
        (lambda s: s.clear(), {}, "expected at least one sample, found none"),
        (
            lambda s: None,
            {"accepted_losses": tuple(f"my-{number}" for number in range(10))},
            "expected at least one sample, found none but 10 that are left out",
        ),
    ],
    ids=["empty", "all lost"],
)
def test_a_set_without_samples_is_refused(change, fields, step_fault, processor, tmp_path):
    assert both(edited(tmp_path, change, **fields), processor, tmp_path) == step_fault


def test_an_image_that_a_link_takes_from_elsewhere_is_refused(processor, tmp_path):
    entry = edited(tmp_path)
    outside, inside = tmp_path / "outside.png", tmp_path / "images/my-1.png"
    inside.rename(outside)
    inside.symlink_to(outside)
    assert both(entry, processor, tmp_path).startswith("sample my-1: image: expected a file within ")
    outside.rename(tmp_path / "images/elsewhere.png")
    inside.unlink()
    inside.symlink_to("elsewhere.png")
    assert not inspect_set(entry, []).problems


def test_a_pipe_among_the_images_is_not_waited_for(processor, tmp_path):
    entry = edited(tmp_path)
    (tmp_path / "images/my-1.png").unlink()
    os.mkfifo(tmp_path / "images/my-1.png")
    assert "expected a regular file, found a named pipe" in both(entry, processor, tmp_path)


def test_the_check_reads_sets_as_every_stage_does(backbones, tmp_path):
    """What fits the longer limit fills the shorter one; text alone teaches no projector."""
    long = edited(tmp_path, turn(0, value="<image> " + "x" * 200))
    words = write_set(tmp_path, "words", count=5)
    samples = json.loads(Path(words.file).read_text())[-1:]
    Path(words.file).write_text(json.dumps(samples))
    folder = {"kind": "backbone", "licence": "none", "source": "local"}
    datasets = {name: BackboneFolder(path=str(backbones / name), **folder) for name in ("clip", "qwen")}
    common = {"vision_tower": "clip", "language_model": "qwen", "vision_feature_select": "cls_patch"}
    stages = (
        Tokenisation(stage="align", sets=("words",), max_length=400, **common),
        Tokenisation(stage="tune", sets=("long",), max_length=400, **common),
        Tokenisation(stage="tune", sets=("long",), max_length=MAX_LENGTH, **common),
    )
    findings = inspect({**datasets, "long": long, "words": words}, {}, stages)
    assert findings.problems == [
        f"{long.file}: sample my-2: expected supervised tokens within max_length 160, found none; "
        f"accept.nothing_supervised of count 1 {LEFT_OUT}",
        "align: words: expected samples with images, found none",
    ]
    assert findings.checked["long"]["supervised_tokens"] > 10
