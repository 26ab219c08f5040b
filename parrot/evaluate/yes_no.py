"""Whether an answer says Yes or No, decided as VLMEvalKit decides it."""

from __future__ import annotations

import re

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
THOUSANDS = re.compile(r"\d,\d")
# A stop that is no decimal point; VLMEvalKit takes away the first 32 of them.
STOP = re.compile(r"(?<!\d)\.(?!\d)")
STOPS = 32


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
