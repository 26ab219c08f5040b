"""What to say of a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """``did you mean A, B or C?`` of the `known` names that are like `name`, or all of them where none is."""
    known = tuple(known)
    found = difflib.get_close_matches(name, known, n=most)
    if not found:
        return f"known are {', '.join(known)}"
    *others, last = found
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
