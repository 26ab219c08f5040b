"""The matcher's stages, on answers whose reading the rules themselves decide."""

from __future__ import annotations

import pytest

from parrot.evaluate.matching import infer

ANIMALS = {"A": "cat", "B": "dog", "C": "black cat", "D": "bird"}


@pytest.mark.parametrize(
    ("prediction", "current", "may2024"),
    [
        ("(B).", "B", "B"),
        ("b", None, None),
        ("B and nothing else matters", None, "B"),
        ("so B and nothing else matters", None, "B"),
        ("B and nothing else", "B", "B"),
        ("The answer is d", "D", None),
        ("a dog", "B", "B"),
        ("a black cat", None, None),
        ("dog " + "and so on " * 8, None, "B"),
        ("Cannot determine the answer, B", "Z", "Z"),
        ("Failed to obtain answer via API: Cannot determine the answer", None, None),
        ("Z", "Z", "Z"),
        ("", None, None),
    ],
)
def test_both_matchers(prediction: str, current: str | None, may2024: str | None) -> None:
    assert infer(prediction, ANIMALS) == current
    assert infer(prediction, ANIMALS, "may2024") == may2024


def test_letter_must_be_offered() -> None:
    assert infer("The answer is D", {"A": "yes", "B": "no"}) is None
