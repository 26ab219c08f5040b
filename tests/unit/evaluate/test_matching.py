"""The matcher's stages, on answers whose reading the rules themselves decide."""

from __future__ import annotations

import pytest

from parrot.evaluate.matching import infer, yes_or_no

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


@pytest.mark.parametrize(
    ("prediction", "said"),
    [
        ("Yes", "Yes"),
        (" no.", "No"),
        ("YES!", "Yes"),
        ("Yes, there is a dog.", "Yes"),
        ("There is no dog", "No"),
        ("Yes and no", None),
        ("", None),
        ("nan", None),
        ("Not at all", None),
        ("yes-no", None),
        ("yes/it is", "Yes"),
        ("yes:", None),
        ("**Yes**", None),
        ("Да", None),
        ("yes。", None),
        # A mark beside a blank vanishes everywhere, one that never is becomes a blank.
        ("no-one - yes", "Yes"),
        ("no-one yes", None),
        # A comma between digits makes every mark vanish.
        ("1,000 of them,yes", None),
        ("1000 of them,yes", "Yes"),
        ("yes.5", None),
        (".yes", "Yes"),
        # Of stops only the first 32 vanish.
        ("." * 32 + "yes", "Yes"),
        ("." * 33 + "yes", None),
    ],
)
def test_answers(prediction: str, said: str | None) -> None:
    assert yes_or_no(prediction) == said
