"""scores.csv, the long form of every accuracy: its columns, what a line must be to be believed, and how to find one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from parrot.config.benchmarks import SCORINGS, Control, Scoring
from parrot.config.settings import Conventions
from parrot.constants import LANGUAGES
from parrot.data.tsv import L2
from parrot.errors import UserError
from parrot.io.csv_tables import read_csv, remade

# The mean of all languages but English, beside the languages themselves.
NON_ENGLISH = "non_english"
# What says which number a line holds.
IDENTITY = ("run", "benchmark", "language", "image_source", "split", "kind", "scoring", "control")
COUNTS = ("questions", "incomplete", "uncounted", "rejected")
SHARES = ("unmatched", "other_language")
NUMBERS = ("accuracy", "low", "high", *COUNTS, *SHARES)
COLUMNS = (
    "run", "seed", "benchmark", "language", "image_source", "split", "kind", "scoring", *Conventions.model_fields,
    "judge", "control", "accuracy", "low", "high", *COUNTS, *SHARES,
)  # fmt: skip
# Points added up, and ratings over those of references, may be above 100.
UNBOUNDED = tuple(scoring for scoring, facts in SCORINGS.items() if facts.unit)
KNOWN = {
    "scoring": get_args(Scoring),
    "control": get_args(Control),
}
DECIMALS = 4


@dataclass(frozen=True)
class Score:
    """One line of scores.csv; per cent, except the counts."""

    run: str
    seed: int
    benchmark: str
    language: str
    image_source: str
    split: str
    kind: str
    scoring: Scoring
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
        image_source: str = "all",
        split: str = "all",
        kind: str = "all",
        control: str = "none",
    ) -> Score | None:
        """Find a score; None where scores.csv has no such line."""
        return self._scores.get((run, benchmark, language, image_source, split, kind, scoring, control))

    def values(self, column: str, benchmarks: Sequence[str]) -> list[str]:
        """List the values of `column` that occur for `benchmarks`, in the order of the file."""
        found = (getattr(s, column) for s in self._scores.values() if s.benchmark in benchmarks)
        return list(dict.fromkeys(found))


def read_scores(paths: Sequence[Path]) -> Scores:
    """Read scores.csv files, of which those of runs that share a stage 1 all carry its lines.

    Raises:
        UserError: a file is no scores.csv (see `read_lines`), or two say two things of one cell.
    """
    found: dict[tuple[str, ...], tuple[Path, Score]] = {}
    for path in paths:
        for line in read_lines(path):
            identity, score = tuple(line[name] for name in IDENTITY), _score(line)
            other, same = found.setdefault(identity, (path, score))
            if same != score:
                raise UserError(f"{path}: the cell {', '.join(identity)} is another one in {other}")
    return Scores(score for _, score in found.values())


def read_lines(path: Path) -> list[dict[str, str]]:
    """Read and check the lines of a scores.csv below its header; the second line of the file is the first of them.

    Raises:
        UserError: the file is not whole (see `parrot.io.csv_tables.read_csv`), a number is none, a percentage is
            outside 0..100 where the scoring has these bounds, or two lines are of one cell.
    """
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for number, cells in enumerate(read_csv(path, COLUMNS), start=2):
        where = f"{path}: line {number}"
        line = dict(zip(COLUMNS, cells, strict=True))
        _check(line, where)
        identity = tuple(line[name] for name in IDENTITY)
        if identity in lines:
            raise UserError(f"{where}: the cell {', '.join(identity)} stands in a line above; {remade(path)}")
        lines[identity] = line
    return list(lines.values())


def in_words(value: Any) -> str:
    """Write a value of a line; what is not a number is an empty cell."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{DECIMALS}f}"
    return str(value)


def _score(line: dict[str, str]) -> Score:
    texts: dict[str, Any] = {name: line[name] for name in (*IDENTITY, "judge")}
    numbers = {name: _number(line[name], name) for name in NUMBERS}
    return Score(**texts | numbers, seed=int(line["seed"]))


def _check(line: dict[str, str], where: str) -> None:
    if not line["seed"].isdecimal():
        raise UserError(f"{where}: seed: expected a whole number, found {line['seed']!r}")
    if line["language"] not in (*LANGUAGES, NON_ENGLISH):
        expected = f"a language's code or {NON_ENGLISH}"
        raise UserError(f"{where}: language: expected {expected}, found {line['language']!r}")
    for column, known in KNOWN.items():
        if line[column] not in known:
            raise UserError(f"{where}: {column}: expected one of {', '.join(known)}, found {line[column]!r}")
    numbers = {column: _number(line[column], f"{where}: {column}") for column in NUMBERS}
    for column, value in numbers.items():
        if value is None:
            continue
        if column in COUNTS and not (value >= 0 and value.is_integer()):
            raise UserError(f"{where}: {column}: expected a whole number, found {line[column]}")
        if column not in COUNTS and not 0 <= value <= _most(line, column):
            expected = f"a percentage between 0 and {_most(line, column):g}"
            raise UserError(f"{where}: {column}: expected {expected}, found {line[column]}")
    # Points of MME are of several accuracies, of which pairs may lack one.
    if numbers["questions"] is None or (
        numbers["accuracy"] is None and numbers["questions"] and line["scoring"] != "mme"
    ):
        absent = "questions" if numbers["questions"] is None else "accuracy"
        raise UserError(f"{where}: {absent}: expected a number, found none")


def _most(line: dict[str, str], column: str) -> float:
    """Tell the most that a column's number can be; a category of MME has two accuracies."""
    if column in SHARES or line["scoring"] not in UNBOUNDED:
        return 100
    of_category = line["scoring"] == "mme" and line["kind"] != "all" and not line["kind"].startswith(L2)
    return 200 if of_category else math.inf


def _number(text: str, where: str) -> float | None:
    """Read the number that a cell holds, None for an empty one.

    Raises:
        UserError: it holds anything else; the line begins with `where`.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: expected a number, found {text!r}")
    return value
