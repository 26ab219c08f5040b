"""scores.csv, the long form of every accuracy: its columns, and what a line must be to be believed."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from parrot.config.catalog import Control, Scoring
from parrot.config.settings import Conventions
from parrot.constants import LANGUAGES
from parrot.data.tsv import L2
from parrot.errors import ConfigError
from parrot.io.files import check_regular

# What says which number a line holds.
IDENTITY = ("run", "benchmark", "language", "house", "split", "kind", "scoring", "control")
COUNTS = ("questions", "incomplete", "uncounted", "rejected")
SHARES = ("unmatched", "other_language")
NUMBERS = ("accuracy", "low", "high", *COUNTS, *SHARES)
COLUMNS = (
    "run", "seed", "benchmark", "language", "house", "split", "kind", "scoring", *Conventions.model_fields, "judge",
    "control", "accuracy", "low", "high", *COUNTS, *SHARES,
)  # fmt: skip
# Points added up, and ratings over those of references, may be above 100.
UNBOUNDED = ("mme", "relative")
# A spreadsheet takes a cell that begins so, and is no number, for a formula; behind an apostrophe it is text.
FORMULA = re.compile(r"'*(?![-+][\d.]+(e[-+]\d+)?$)[=+\-@\t\r]")
KNOWN = {"language": LANGUAGES, "scoring": get_args(Scoring), "control": get_args(Control)}
DECIMALS = 4


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Lines that end in a line feed; cells with line ends are quoted, and none is a spreadsheet's formula."""
    return "".join(f"{_line(row)}\n" for row in rows)


def _line(row: Sequence[str]) -> str:
    out = io.StringIO()
    # What the module quotes are cells with a character of its line ends, so that these are both.
    csv.writer(out, lineterminator="\r\n").writerow(map(_as_text, row))
    return out.getvalue().removesuffix("\r\n")


def in_words(value: Any) -> str:
    """A value of a line as it is written; what is not a number is an empty cell."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{DECIMALS}f}"
    return str(value)


def _as_text(cell: str) -> str:
    return f"'{cell}" if FORMULA.match(cell) else cell


def _as_named(cell: str) -> str:
    """The cell that `_as_text` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read_lines(path: Path) -> list[dict[str, str]]:
    """The lines of a scores.csv below its header, checked; the second line of the file is the first of them.

    Raises:
        ConfigError: the file cannot be read or is cut off, its header is not `COLUMNS`, it has no line, a number is
            none, a percentage is outside 0..100 where the scoring has these bounds, or two lines are of one cell.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        at = 1 + content.count(b"\n", 0, error.start)
        raise ConfigError(f"{path}: line {at}: expected UTF-8; {remade(path)}") from None
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as error:
        raise ConfigError(f"{path}: expected CSV: {error}; {remade(path)}") from None
    missing = [column for column in COLUMNS if column not in header]
    if missing or tuple(header) != COLUMNS:
        found = f"no column {missing[0]}" if missing else "other columns"
        raise ConfigError(f"{path}: {found}; expected {', '.join(COLUMNS)}; {remade(path)}")
    if not text.endswith("\n") or not rows:
        raise ConfigError(f"{path}: expected whole lines below the header, found it cut off; {remade(path)}")
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for number, cells in enumerate(rows, start=2):
        where = f"{path}: line {number}"
        if len(cells) != len(header):
            raise ConfigError(f"{where}: expected {len(header)} cells, found {len(cells)}; {remade(path)}")
        line = {column: _as_named(cell) for column, cell in zip(header, cells, strict=True)}
        _check(line, where)
        identity = tuple(line[name] for name in IDENTITY)
        if identity in lines:
            raise ConfigError(f"{where}: the cell {', '.join(identity)} stands in a line above; {remade(path)}")
        lines[identity] = line
    return list(lines.values())


def remade(path: Path) -> str:
    """How a scores.csv that cannot be believed is made anew."""
    return f"remove {path} and run again"


def _check(line: dict[str, str], where: str) -> None:
    if not line["seed"].isdecimal():
        raise ConfigError(f"{where}: seed: expected a whole number, found {line['seed']!r}")
    for column, known in KNOWN.items():
        if line[column] not in known:
            raise ConfigError(f"{where}: {column}: expected one of {', '.join(known)}, found {line[column]!r}")
    numbers = {column: number(line[column], f"{where}: {column}") for column in NUMBERS}
    for column, value in numbers.items():
        if value is None:
            continue
        if column in COUNTS and not (value >= 0 and value.is_integer()):
            raise ConfigError(f"{where}: {column}: expected a whole number, found {line[column]}")
        if column not in COUNTS and not 0 <= value <= _most(line, column):
            expected = f"a percentage between 0 and {_most(line, column):g}"
            raise ConfigError(f"{where}: {column}: expected {expected}, found {line[column]}")
    # Points of MME are of several accuracies, of which pairs may lack one.
    if numbers["questions"] is None or (
        numbers["accuracy"] is None and numbers["questions"] and line["scoring"] != "mme"
    ):
        absent = "questions" if numbers["questions"] is None else "accuracy"
        raise ConfigError(f"{where}: {absent}: expected a number, found none")


def _most(line: dict[str, str], column: str) -> float:
    """The most that a column's number can be; a category of MME has two accuracies."""
    if column in SHARES or line["scoring"] not in UNBOUNDED:
        return 100
    of_category = line["scoring"] == "mme" and line["kind"] != "all" and not line["kind"].startswith(L2)
    return 200 if of_category else math.inf


def number(text: str, where: str) -> float | None:
    """The number that a cell holds, None for an empty one; ConfigError starting with `where` for anything else."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{where}: expected a number, found {text!r}")
    return value
