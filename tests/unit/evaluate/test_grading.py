"""What counts as a hit, as unmatched and as an answer in another language, row by row."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from parrot.config.settings import Conventions
from parrot.evaluate.grading import grade, names_other_language

NAMES = {"en": "dog", "zh": "狗", "pt": "cão", "ar": "كلب", "tr": "köpek", "ru": "собака"}
OURS = Conventions()


def table(*rows: dict[str, str]) -> pd.DataFrame:
    common = {"question": "?", "A": "cão", "B": "gato", "C": "", "answer": "A", "answer_names": json.dumps(NAMES)}
    return pd.DataFrame([{**common, **row} for row in rows], dtype=str)


def test_rows() -> None:
    graded = grade(
        table(
            {"index": "1", "prediction": "cão", "image_sha256": "p", "category": "naming"},
            {"index": "2", "prediction": "gato", "image_sha256": "p", "category": "naming"},
            {"index": "3", "prediction": "собака", "image_sha256": "q", "category": "colour"},
        ),
        "pt",
        OURS,
    )
    assert list(graded["language"]) == ["pt"] * 3
    assert list(graded["hit"]) == [1, 0, 0]
    assert list(graded["unmatched"]) == [0, 0, 1]
    assert list(graded["other_language"]) == [0, 0, 1]
    assert list(graded["options"]) == [2, 2, 2]
    assert list(graded["image_sha256"]) == ["p", "p", "q"]
    assert list(graded["category"]) == ["naming", "naming", "colour"]
    assert list(graded["image_source"]) == list(graded["pair_id"]) == [""] * 3


@pytest.mark.parametrize(
    ("language", "prompt_language", "postprocess", "hit"),
    [
        ("en", "dataset", "vlmevalkit", 1),
        ("en", "dataset", "none", 0),
        ("pt", "dataset", "vlmevalkit", 0),
        ("pt", "group", "vlmevalkit", 1),
        ("pt", "group", "none", 0),
    ],
)
def test_answers_are_shortened_where_the_prompt_ended_in_english(
    language: str, prompt_language: str, postprocess: str, hit: int
) -> None:
    conventions = Conventions(prompt_language=prompt_language, postprocess=postprocess)
    # Bare, the letter does not stand within the last four words.
    told = table({"index": "1", "prediction": "A cup, which stands on a table"})
    assert grade(told, language, conventions)["hit"].item() == hit


@pytest.mark.parametrize(("start", "unmatched"), [("", 0), (" \n", 0), ("\u3000", 1), ("\xa0", 1)])
def test_the_wrapper_takes_off_ascii_blanks_alone(start: str, unmatched: int) -> None:
    answer = f"{start}B. It is the second of the animals in the image above"
    graded = grade(table({"index": "1", "prediction": answer, "C": "pato", "answer": "B"}), "en", OURS)
    assert (graded["hit"].item(), graded["unmatched"].item()) == (1 - unmatched, unmatched)


def test_words_for_nothing_are_answers_unless_read_as_vlmevalkit_does() -> None:
    told = table(
        {"index": "1", "A": "None", "B": "two", "prediction": "None"},
        {"index": "2", "A": "banana", "B": "nan", "answer": "B", "prediction": ""},
        {"index": "3", "A": "NA", "B": "null", "C": "x", "prediction": "A"},
    )
    assert list(grade(told, "en", OURS)["hit"]) == [1, 0, 1]
    theirs = grade(told, "en", Conventions(missing_values="vlmevalkit"))
    # A question has as many rotations as options in the file.
    assert list(theirs["options"]) == [2, 2, 3]
    assert list(theirs["hit"]) == [0, 0, 0]


def test_answers_are_matched_as_vlmevalkit_s_spreadsheet_gives_them_back() -> None:
    told = table(
        {"index": "1", "A": "1.0", "B": "2.0", "answer": "B", "prediction": "2"},
        {"index": "2", "A": "1.0", "B": "2.0", "answer": "B", "prediction": "B\r\nçünkü gri"},
    )
    assert list(grade(told, "tr", OURS)["hit"]) == [0, 1]
    assert list(grade(told, "tr", Conventions(missing_values="vlmevalkit"))["hit"]) == [1, 0]


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("dog", True),
        ("A DOG!", True),
        ("dogma", False),
        ("一只狗。", True),
        ("köpek", True),
        ("cão", False),
        ("", False),
    ],
)
def test_right_concept_in_another_language(prediction: str, expected: bool) -> None:
    row = {"prediction": prediction, "answer_names": json.dumps(NAMES)}
    assert names_other_language(row, "pt") is expected


def test_a_name_that_languages_share_is_no_other_language() -> None:
    row = {"prediction": "banana", "answer_names": json.dumps({"en": "banana", "pt": "Banana"})}
    assert not names_other_language(row, "en")
    assert not names_other_language({"prediction": "banana"}, "en")
