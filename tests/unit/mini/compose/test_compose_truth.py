"""What the files say about an image is what its pixels show."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from parrot.mini.compose.concepts import FAR_EMOJI_SET, NEAR_EMOJI_SET, TRAIN_EMOJI_SETS, VALIDATION_EMOJI_SET
from tests.unit.mini.compose.composed_files import (
    BENCHMARKS,
    LANGUAGES,
    conversations,
    image_of,
    questions,
    right_text,
    table,
)
from tests.unit.mini.compose.marked_images import SHIPPED, Shown, main_colour, read_marks

pytestmark = pytest.mark.slow

CONCEPTS = {entry["id"]: entry for entry in json.loads((SHIPPED / "concepts.json").read_text(encoding="utf-8"))}
CATEGORIES = json.loads((SHIPPED / "categories.json").read_text(encoding="utf-8"))
PHRASES = json.loads((SHIPPED / "phrases.json").read_text(encoding="utf-8"))
POSITIONS: dict[str, Callable[[list[Shown]], Shown]] = {
    "left": lambda shown: min(shown, key=lambda s: s.x),
    "right": lambda shown: max(shown, key=lambda s: s.x),
    "top": lambda shown: min(shown, key=lambda s: s.y),
    "bottom": lambda shown: max(shown, key=lambda s: s.y),
}


@cache
def shown_in(path: Path) -> list[Shown]:
    with Image.open(path) as image:
        return read_marks(image)


def one_each(shown: list[Shown]) -> list[str]:
    """The concepts of an image, a large sprite that reaches into several cells counted once."""
    return sorted({s.concept for s in shown})


def subject_and_concept(question: str, language: str) -> tuple[str, str]:
    """What a question asks and the concept it names, found by trying every wording with every name."""
    return _worded(language)[question]


@cache
def _worded(language: str) -> dict[str, tuple[str, str]]:
    found = {}
    for subject, wordings in PHRASES["question"].items():
        for wording in wordings[language]:
            if "{name}" not in wording:
                found[wording] = (subject, "")
                continue
            for concept, entry in CONCEPTS.items():
                found[wording.replace("{name}", entry["names"][language])] = (subject, concept)
    return found


def truth(question: str, language: str, shown: list[Shown]) -> str:
    """The right answer's text to a question in `language` about an image."""
    subject, concept = subject_and_concept(question, language)
    concepts = one_each(shown)
    if subject in POSITIONS:
        return CONCEPTS[POSITIONS[subject](shown).concept]["names"][language]
    if subject == "counting":
        assert concepts == [concept]
        return str(len(shown))
    if subject == "same_different":
        assert concept in concepts
        return PHRASES["option"]["same" if len(concepts) == 1 else "different"][language]
    if subject == "yes_no":
        return PHRASES["option"]["yes" if concept in concepts else "no"][language]
    (only,) = concepts
    if subject == "colour":
        return PHRASES["option"][main_colour(only)][language]
    return (
        CATEGORIES[CONCEPTS[only]["category"]][language] if subject == "category" else CONCEPTS[only]["names"][language]
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_training_and_held_out_answers_are_what_the_images_show(marked: Path, language: str) -> None:
    for file in (marked / "sft" / f"sft_{language}.json", marked / "validation" / f"val_{language}.json"):
        checked = 0
        for asked in questions(file):
            if asked.image is not None:
                assert asked.answer == truth(asked.question, language, shown_in(asked.image)), asked
                assert asked.answer in asked.options
                checked += 1
        assert checked >= 100


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_benchmark_answers_are_what_the_images_show(marked: Path, benchmark: str) -> None:
    for language in LANGUAGES:
        rows = table(marked, benchmark, language)
        for _, row in rows.iterrows():
            shown = read_marks(image_of(row, rows))
            assert right_text(row) == truth(row["question"], language, shown), row["index"]
            assert row["concept"] in {s.concept for s in shown}
            assert {s.emoji_set for s in shown} == {row["image_source"]}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_shuffled_image_has_another_right_answer(marked: Path, benchmark: str) -> None:
    rows = table(marked, benchmark, "en")
    for _, row in rows.iterrows():
        other = rows.loc[row["shuffled"]]
        assert (other["image_source"], other["category"]) == (row["image_source"], row["category"])
        assert other["image"] != row["image"]
        shown = read_marks(image_of(other, rows))
        subject, concept = subject_and_concept(row["question"], "en")
        if subject == "same_different" or subject == "counting":
            assert concept in one_each(shown)
        if subject == "yes_no" and right_text(row) == "no":
            assert one_each(shown) == [concept]
        assert truth(row["question"], "en", shown) != right_text(row)


@pytest.mark.parametrize(
    ("folder", "emoji_sets"),
    [("align", TRAIN_EMOJI_SETS), ("sft", TRAIN_EMOJI_SETS), ("validation", [VALIDATION_EMOJI_SET])],
)
def test_emoji_sets_stay_on_their_side_of_the_split(marked: Path, folder: str, emoji_sets: list[str]) -> None:
    seen = {shown.emoji_set for path in (marked / folder / "images").iterdir() for shown in shown_in(path)}
    assert seen == set(emoji_sets)


def test_benchmarks_show_only_their_emoji_sets(marked: Path) -> None:
    for benchmark, emoji_sets in {"MMMB": {NEAR_EMOJI_SET, FAR_EMOJI_SET}, "MMMB_val": {VALIDATION_EMOJI_SET}}.items():
        rows = table(marked, benchmark, "en")
        assert {s.emoji_set for _, row in rows.iterrows() for s in read_marks(image_of(row, rows))} == emoji_sets


def test_a_fifth_of_the_concepts_is_shown_in_english_training_only(marked: Path) -> None:
    shown = {
        language: {
            s.concept for a in questions(marked / "sft" / f"sft_{language}.json") if a.image for s in shown_in(a.image)
        }
        for language in LANGUAGES
    }
    hidden = shown["en"] - shown["zh"]
    assert len(hidden) == len(shown["en"]) // 5
    for language in LANGUAGES[1:]:
        assert shown["en"] - shown[language] == hidden
        rows = table(marked, "MMMB", language)
        assert {c for c, unseen in zip(rows["concept"], rows["unseen_in_language"], strict=True) if unseen == "1"} == (
            set(rows["concept"]) & hidden
        )
    assert set(table(marked, "MMMB", "en")["unseen_in_language"]) == {"0"}


def test_captions_name_what_the_images_show(marked: Path) -> None:
    samples = conversations(marked / "align" / "captions.json")
    layouts = set()
    for sample in samples:
        shown = shown_in(marked / "align" / "images" / sample["image"])
        caption = sample["conversations"][1]["value"].split(": ", 1)[1].removesuffix(".")
        between = next((b for b in (" | ", " / ", ", ") if b in caption), "")
        layouts.add(between)
        parts = caption.split(between) if between else [caption]
        axis = {" | ": lambda s: s.x, " / ": lambda s: s.y}.get(between, lambda s: 0.0)
        names = [CONCEPTS[s.concept]["names"]["en"] for s in sorted(shown, key=axis)]
        assert list(dict.fromkeys(names)) == list(dict.fromkeys(parts)), sample
        assert between != ", " or len(parts) == len(shown), sample
    assert layouts == {" | ", " / ", ", ", ""}
