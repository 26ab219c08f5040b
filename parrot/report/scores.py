"""Read scores.csv, the long form of every accuracy, and look cells up in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.config import ConfigError
from parrot.evaluate.score import COLUMNS

COUNTS = ("questions", "incomplete", "uncounted", "rejected")
NUMBERS = ("accuracy", "low", "high", *COUNTS, "unmatched", "other_language")
# Points added up, and ratings over those of references, may be above 100.
UNBOUNDED = ("mme", "relative")
# What says which number a line of scores.csv holds.
IDENTITY = ("run", "benchmark", "language", "house", "split", "kind", "scoring", "control")


@dataclass(frozen=True)
class Cell:
    """A number with its 95 % interval; None where it is missing.

    `text` is the number as a reader sees it, where one decimal would not do.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


MISSING = Cell(None)


@dataclass(frozen=True)
class Score:
    """One line of scores.csv; per cent, except the counts."""

    run: str
    seed: int
    benchmark: str
    language: str
    house: str
    split: str
    kind: str
    scoring: str
    control: str
    judge: str
    accuracy: float | None
    low: float | None
    high: float | None
    questions: float | None
    incomplete: float | None
    uncounted: float | None
    rejected: float | None
    unmatched: float | None
    other_language: float | None

    @property
    def cell(self) -> Cell:
        return Cell(self.accuracy, self.low, self.high)


class Scores:
    """Scores, found by what they measure."""

    def __init__(self, scores: Iterable[Score]):
        self._scores = {tuple(getattr(s, name) for name in IDENTITY): s for s in scores}

    def __iter__(self) -> Iterator[Score]:
        return iter(self._scores.values())

    def find(
        self,
        run: str,
        benchmark: str,
        language: str,
        *,
        scoring: str,
        house: str = "all",
        split: str = "all",
        kind: str = "all",
        control: str = "none",
    ) -> Score | None:
        """The score, or None where scores.csv has no such line."""
        return self._scores.get((run, benchmark, language, house, split, kind, scoring, control))

    def values(self, column: str, benchmarks: Sequence[str]) -> list[str]:
        """The values of `column` that occur for `benchmarks`, in the order of the file."""
        found = (getattr(s, column) for s in self._scores.values() if s.benchmark in benchmarks)
        return list(dict.fromkeys(found))


def read_scores(paths: Sequence[Path]) -> Scores:
    """Read and check scores.csv files.

    Raises:
        ConfigError: a file cannot be read, lacks a column, holds something that is not a number, a percentage outside
            0..100 where the scoring has these bounds, or two lines for one cell.
    """
    lines: dict[tuple, str] = {}
    scores = []
    for path in paths:
        for where, score in _read(path):
            identity = tuple(getattr(score, name) for name in IDENTITY)
            if identity in lines:
                raise ConfigError(f"{where}: the cell {', '.join(identity)} stands in {lines[identity]} already")
            lines[identity] = where
            scores.append(score)
    return Scores(scores)


def _read(path: Path) -> Iterable[tuple[str, Score]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path}: no column {missing[0]}; expected {', '.join(COLUMNS)}")
            rows = list(reader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    for number, row in enumerate(rows, start=2):
        where = f"{path}: line {number}"
        yield where, _score(row, where)


def _score(row: dict[str, str], where: str) -> Score:
    numbers = {column: _number(row[column], f"{where}: {column}") for column in NUMBERS}
    for column in NUMBERS:
        value = numbers[column]
        bounded = column not in COUNTS and row["scoring"] not in UNBOUNDED
        if value is not None and (value < 0 or (bounded and value > 100)):
            raise ConfigError(f"{where}: {column}: expected a percentage between 0 and 100, found {row[column]}")
    if not row["seed"].isdigit():
        raise ConfigError(f"{where}: seed: expected a whole number, found {row['seed']!r}")
    texts: dict[str, Any] = {name: row[name] for name in (*IDENTITY, "judge")}
    return Score(**texts | numbers, seed=int(row["seed"]))


def _number(text: str | None, where: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{where}: expected a number, found {text!r}") from None
