"""Which questions are the benchmarks' own: a question's identity without language, wording and order.

Whoever writes training text, in whatever language, drops the questions whose key `is_reserved`; the benchmarks ask only
those. A key is decided by itself alone, so generators need not know of one another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

DIRECTIONS = ("left", "right", "top", "bottom")
NUMBERS = ("1", "2", "3", "4")
FIXED_OPTIONS: dict[str, tuple[str, ...]] = {
    "counting": NUMBERS,
    "same_different": ("same", "different"),
    "yes_no": ("yes", "no"),
}

# One key in so many is the benchmarks'.
_RESERVED_EVERY = 4


@dataclass(frozen=True)
class Key:
    """What is asked (a direction counts as ``position``), about which named concept if any, among which options."""

    subject: str
    concept: str
    options: frozenset[str]


def make_key(subject: str, concept: str, options: Iterable[str]) -> Key:
    """The key of a question with this subject, named concept ("" for none) and options in any order."""
    return Key("position" if subject in DIRECTIONS else subject, concept, frozenset(options))


@cache
def is_reserved(key: Key) -> bool:
    """Whether only the benchmarks may ask this question."""
    text = "\n".join((key.subject, key.concept, *sorted(key.options)))
    return hashlib.sha256(text.encode()).digest()[0] % _RESERVED_EVERY == 0
