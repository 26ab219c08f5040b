"""What counts as a hit, as unmatched and as an answer in another language."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from parrot.evaluate.accuracy import names_other_language, units

NAMES = {"en": "dog", "zh": "狗", "pt": "cão", "ar": "كلب", "tr": "köpek", "ru": "собака"}


def table(*rows: dict[str, str]) -> pd.DataFrame:
    common = {"A": "cão", "B": "gato", "C": "", "D": "", "answer": "A", "answer_names": json.dumps(NAMES)}
    return pd.DataFrame([{**common, **row} for row in rows], dtype=str)


def test_vanilla_units() -> None:
    scored = units(
        table(
            {"index": "1", "prediction": "cão", "picture": "p", "category": "naming"},
            {"index": "2", "prediction": "gato", "picture": "p", "category": "naming"},
            {"index": "3", "prediction": "собака", "picture": "q", "category": "colour"},
        ),
        "vanilla",
        "pt",
    )
    assert list(scored["hit"]) == [1, 0, 0]
    assert list(scored["unmatched"]) == [0, 0, 1]
    assert list(scored["other_language"]) == [0, 0, 1]
    assert list(scored["options"]) == [2, 2, 2]
    assert list(scored["picture"]) == ["p", "p", "q"]
    assert list(scored["category"]) == ["naming", "naming", "colour"]
    assert list(scored["house"]) == ["", "", ""]


def test_circular_groups_hit_where_every_rotation_does() -> None:
    scored = units(
        table(
            {"index": "1", "prediction": "A"},
            {"index": "1000001", "prediction": "B", "answer": "B"},
            {"index": "2", "prediction": "A"},
            {"index": "1000002", "prediction": "what?"},
            {"index": "1000003", "prediction": "A"},
        ),
        "circular",
    )
    assert scored[["index", "hit", "unmatched"]].to_numpy().tolist() == [[1, 1, 0.0], [2, 0, 0.5]]


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
