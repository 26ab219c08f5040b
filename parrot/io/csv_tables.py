"""CSV files of our own: written so that no spreadsheet runs a cell, and read so that a damaged file is refused."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from parrot.errors import UserError
from parrot.io.files import check_regular

# A spreadsheet takes a cell that begins so, and is no number, for a formula; behind an apostrophe it is text.
FORMULA = re.compile(r"'*(?![-+][\d.]+(e[-+]\d+)?$)[=+\-@\t\r]")


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """Join rows to lines that end in a line feed; cells with line ends are quoted, and none is a formula."""
    return "".join(f"{_line(row)}\n" for row in rows)


def read_csv(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Read the rows below the header of a file that `to_csv` wrote; the file's second line is the first of them.

    Raises:
        UserError: the file cannot be read or is cut off, its header is not `columns`, it has no row, or a row has
            another number of cells.
    """
    check_regular(path)
    try:
        content = path.read_bytes()
        text = content.decode()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        at = 1 + content.count(b"\n", 0, error.start)
        raise UserError(f"{path}: line {at}: expected UTF-8; {remade(path)}") from None
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except csv.Error as error:
        raise UserError(f"{path}: expected CSV: {error}; {remade(path)}") from None
    missing = [column for column in columns if column not in header]
    if missing or tuple(header) != tuple(columns):
        found = f"no column {missing[0]}" if missing else "other columns"
        raise UserError(f"{path}: {found}; expected {', '.join(columns)}; {remade(path)}")
    if not text.endswith("\n") or not rows:
        raise UserError(f"{path}: expected complete lines below the header, found it cut off; {remade(path)}")
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise UserError(f"{path}: line {number}: expected {len(header)} cells, found {len(cells)}; {remade(path)}")
    return [[_as_named(cell) for cell in cells] for cells in rows]


def remade(path: Path) -> str:
    """Say how a file that cannot be believed is made anew."""
    return f"remove {path} and run again"


def _line(row: Sequence[str]) -> str:
    out = io.StringIO()
    # What the module quotes are cells with a character of its line ends, so that these are both.
    csv.writer(out, lineterminator="\r\n").writerow(map(_as_text, row))
    return out.getvalue().removesuffix("\r\n")


def _as_text(cell: str) -> str:
    return f"'{cell}" if FORMULA.match(cell) else cell


def _as_named(cell: str) -> str:
    """Undo `_as_text`."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
