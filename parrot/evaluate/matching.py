"""Which option an answer names, decided as VLMEvalKit's exact matching decides it.

Two published versions are reproduced, quirks included, because accuracies are only comparable under the same matcher:
``current`` (VLMEvalKit today) and ``may2024`` (the version behind the paper's numbers).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Matcher = Literal["current", "may2024"]
REFUSED = "Z"

API_FAILURE = "Failed to obtain answer via API"
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
BLANKED = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# Case-insensitive and without a word boundary: "answer is Cat-like" names C.
ANSWER_IS = re.compile(r"answer\s+is\s+\**([A-D])", re.IGNORECASE)
LAST_WORDS = 4


def infer(prediction: str, choices: Mapping[str, str], matcher: Matcher = "current") -> str | None:
    """The option letter that `prediction` names, ``"Z"`` for a refusal, None when nothing can be inferred.

    `choices` maps the offered letters to their texts. A letter is looked for first, then an option's text.
    """
    return _infer_letter(prediction, choices, matcher) or _infer_text(prediction, choices, matcher)


def _infer_letter(prediction: str, choices: Mapping[str, str], matcher: Matcher) -> str | None:
    if API_FAILURE in prediction:
        return None
    if any(refusal in prediction for refusal in REFUSALS):
        return REFUSED
    words = prediction.translate(BLANKED).split()
    named = [letter for letter in choices if letter in words]
    if len(named) == 1 and (matcher == "may2024" or words.index(named[0]) >= len(words) - LAST_WORDS):
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    if matcher == "current" and (match := ANSWER_IS.search(prediction)):
        letter = match[1].upper()
        return letter if letter in choices else None
    return None


def _infer_text(prediction: str, choices: Mapping[str, str], matcher: Matcher) -> str | None:
    answer = prediction.lower()
    if matcher == "current" and len(answer) > 2 * sum(len(str(text)) for text in choices.values()):
        return None
    named = [letter for letter, text in choices.items() if str(text).lower() in answer]
    return named[0] if len(named) == 1 else None
