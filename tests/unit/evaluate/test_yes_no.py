"""Yes or No in an answer: cases worked by hand after VLMEvalKit's rules."""

from __future__ import annotations

import pytest

from parrot.evaluate.matching import yes_or_no


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
