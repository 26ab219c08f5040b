"""Which option an answer names, or whether it says Yes or No, decided as VLMEvalKit's exact matching decides it.

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
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
THOUSANDS = re.compile(r"\d,\d")
# A stop that is no decimal point; VLMEvalKit takes away the first 32 of them.
STOP = re.compile(r"(?<!\d)\.(?!\d)")
STOPS = 32


def infer(prediction: str, choices: Mapping[str, str], matcher: Matcher = "current") -> str | None:
    """Return the option letter that `prediction` names, ``"Z"`` for a refusal, None when nothing can be inferred.

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


def yes_or_no(prediction: str) -> str | None:
    """``"Yes"`` or ``"No"``, whichever of the two is a word of `prediction`, in any case; None for both or neither."""
    words = _blanked(prediction.lower()).split()
    said = [answer for answer in ("Yes", "No") if answer.lower() in words]
    return said[0] if len(said) == 1 else None


def _blanked(text: str) -> str:
    """`text` without punctuation: a mark beside a blank vanishes, another one becomes a blank.

    All marks vanish where a comma stands between digits. Colons, asterisks and marks of other scripts are no
    punctuation: ``yes:`` is not the word yes.
    """
    thousands = THOUSANDS.search(text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        vanishes = thousands or f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if vanishes else " ")
    return STOP.sub("", cleaned, count=STOPS)
