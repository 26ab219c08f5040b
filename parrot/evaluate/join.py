"""The scores of several runs in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parrot.evaluate.score_lines import COLUMNS, read_lines, to_csv
from parrot.io.files import atomic_write


def join(scores: Sequence[Path], output: Path) -> None:
    """Write the lines of `scores` to `output`, each once: runs that share a stage 1 all carry its lines.

    ConfigError for a file that is no scores.csv, as `read_lines` has it.
    """
    lines = dict.fromkeys(tuple(line.values()) for path in scores for line in read_lines(path))
    atomic_write(output, to_csv([COLUMNS, *lines]))
