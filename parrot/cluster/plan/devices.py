"""The names of GPUs. Nothing here needs more than Python, so that a bare machine with a GPU can ask too."""

from __future__ import annotations

from collections.abc import Collection


def device_of(name: str, known: Collection[str]) -> str | None:
    """The one of the devices `known` that a user, Slurm or the driver calls `name`; None for none or several."""
    word = name.lower().replace(" ", "").replace("-", "_")
    found = [word] if word in known else [device for device in known if device in word]
    return found[0] if len(found) == 1 else None
