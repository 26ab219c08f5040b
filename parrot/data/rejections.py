"""Rows of a benchmark that cannot be asked: refused at the first one, or counted and listed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parrot.errors import ConfigError
from parrot.io.files import atomic_write

COLUMNS = ("row", "index", "why")


@dataclass(frozen=True)
class Rejection:
    """A row by its place among a file's rows, from 0, and its index where that can be told; and what is wrong."""

    place: int
    index: str
    why: str

    def __str__(self) -> str:
        row = f"row {self.index}" if self.index else f"row number {self.place + 1}"
        return f"{row}: {self.why}"


def reject(found: Sequence[Rejection], path: str | Path, rejected: list[Rejection] | None) -> None:
    """Add `found`, rows of the file `path`, to `rejected`; with None for it, ConfigError at the first one."""
    if found and rejected is None:
        raise ConfigError(f"{path}: {found[0]}")
    if rejected is not None:
        rejected += found


def write_list(rejected: Sequence[Rejection], path: Path) -> None:
    """Write `rejected` to `path` by place; no file where there is none."""
    if not rejected:
        path.unlink(missing_ok=True)
        return
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.place + 1, row.index, row.why) for row in sorted(rejected, key=lambda row: row.place))
    atomic_write(path, out.getvalue())
