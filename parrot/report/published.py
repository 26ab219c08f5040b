"""Published values, from config/published_results.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from parrot.errors import UserError
from parrot.io.files import read_text
from parrot.report.scores import Cell
from parrot.report.settings import Compare, PublishedSystem

METRIC = "accuracy (%)"
COLUMNS = ("system", "llm", "benchmark", "language", "metric", "value", "source")


def published_row(path: Path, compare: Compare, benchmark: str, system: PublishedSystem) -> dict[str, Cell]:
    """Return the published accuracies, in per cent, of `system` on `benchmark` by language.

    Args:
        path: a CSV with the columns `COLUMNS`.
        compare: where the values of each benchmark are.
        benchmark: one of ``compare.tables``.
        system: whose values.

    Raises:
        UserError: the file cannot be read, or holds none or several of these values.
    """
    where = compare.tables[benchmark]
    wanted = {"system": system.system, "benchmark": where.benchmark, "source": f"{compare.paper} {where.table}"}
    wanted |= {"metric": METRIC} | ({"llm": system.llm} if system.llm else {})
    found: dict[str, Cell] = {}
    for row in _read(path):
        if wanted.items() <= row.items():
            if row["language"] in found:
                raise UserError(f"{path}: two values for {', '.join(wanted.values())} in {row['language']}; give llm")
            found[row["language"]] = Cell(_number(path, row))
    if not found:
        raise UserError(f"{path}: no value for {', '.join(wanted.values())}")
    return found


@cache
def _read(path: Path) -> tuple[Mapping[str, str], ...]:
    lines = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        rows = tuple(lines)
    except csv.Error:
        rows = ()
    if not rows or {*COLUMNS} - {*(lines.fieldnames or ())}:
        raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    return rows


def _number(path: Path, row: Mapping[str, str]) -> float:
    try:
        return float(row["value"])
    except (TypeError, ValueError):
        raise UserError(f"{path}: value {row['value']!r}: expected a number") from None
