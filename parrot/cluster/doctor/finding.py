"""What a check found, as one line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: what was looked at, what was found and, unless all is well, what to do."""

    status: Literal["ok", "warning", "failed"]
    check: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.status:<9}{self.check:<12}{' '.join(self.found.split())}{advice}"


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding("ok", check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """A run may go well all the same, or the check could not be made."""
    return Finding("warning", check, found, advice)


def failed(check: str, found: str, advice: str) -> Finding:
    """A run would not go well."""
    return Finding("failed", check, found, advice)


def listed(names: list[str], most: int = 4) -> str:
    """The first of `names`, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
