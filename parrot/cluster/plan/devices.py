"""The names of GPUs. This module needs only Python's standard library, so that it runs on a bare machine."""

from __future__ import annotations

from collections.abc import Collection


def device_of(name: str, known: Collection[str]) -> str | None:
    """Return the device of `known` that a user, Slurm or the driver calls `name`; None for no or several matches."""
    word = name.lower().replace(" ", "").replace("-", "_")
    found = [word] if word in known else [device for device in known if device in word]
    return found[0] if len(found) == 1 else None
