"""The scores of several runs in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parrot.config import ConfigError
from parrot.files import atomic_write


def join(scores: Sequence[Path], output: Path) -> None:
    """Write the lines of `scores` to `output`, each once: runs that share a stage 1 all carry its lines.

    ConfigError for a file that is empty or whose header is not that of the first.
    """
    header = ""
    lines: dict[str, None] = {}
    for path in scores:
        first, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
        header = header or first
        if not first or first != header:
            raise ConfigError(f"{path}: expected the header {header or 'of a scores.csv'}, found {first or 'nothing'}")
        lines.update(dict.fromkeys(rest))
    atomic_write(output, "".join(f"{line}\n" for line in (header, *lines)))
