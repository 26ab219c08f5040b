"""Benchmark and prediction tables: VLMEvalKit-style TSVs in which every cell stays the string it is.

"None", "NA" and "null" are answers like any other, so nothing is ever read as a missing value; an empty cell is "".
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import string
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from parrot.data.images import Inspection, inspect_image, open_image, open_rgb
from parrot.errors import UserError
from parrot.io.files import atomic_path, atomic_write, read_content

LETTERS = string.ascii_uppercase
# Rotation k of question i has the index i + k * ROTATION.
ROTATION = 1_000_000
# What a kind of score is called that is an l2-category, whose names may be those of categories.
L2 = "l2-category/"
# Kinds of scores that are neither categories nor l2-categories.
SUBSETS = ("four_option", "easy", "hard", "seen_in_language", "unseen_in_language")
FOREIGN = re.compile("[\udc80-\udcff]")
# Python's csv module refuses cells beyond 128 KiB by default; base64 images are larger.
csv.field_size_limit(2**31 - 1)


def read_tsv(path: str | Path, required: Iterable[str] = (), rejected: list[Rejection] | None = None) -> pd.DataFrame:
    """All cells of `path` as strings.

    Blank lines are skipped, as pandas and with it VLMEvalKit skips them. With a list `rejected`, rows that have another
    number of cells than the header, or are not UTF-8, are named there and left out; the others keep their place in the
    file as the table's index.

    Raises:
        UserError: it cannot be read, is ragged or lacks a `required` column.
    """
    # Bytes of another encoding become lone surrogates, by which their row is told.
    text = read_content(path).decode("utf-8-sig", errors="surrogateescape")
    header, *rows = _lines(text, path) or [[]]
    if any(map(_is_foreign, header)):
        raise UserError(f"{path}: header: expected UTF-8")
    for column in (*required, *header):
        if header.count(column) != 1:
            found = "no" if column not in header else "more than one"
            raise UserError(f"{path}: {found} column {column}; expected a header line with {', '.join(required)}")
    faults = {}
    for place, row in enumerate(rows):
        if len(row) != len(header):
            faults[place] = f"expected {len(header)} cells, found {len(row)}"
        elif any(map(_is_foreign, row)):
            column = next(name for name, cell in zip(header, row, strict=True) if _is_foreign(cell))
            faults[place] = f"{column}: expected UTF-8"
    reject([Rejection(place, "", why) for place, why in faults.items()], path, rejected)
    sound = {place: row for place, row in enumerate(rows) if place not in faults}
    return pd.DataFrame(list(sound.values()), index=list(sound), columns=header, dtype=str)


def write_tsv(table: pd.DataFrame, path: str | Path) -> None:
    """Write `table` as a whole, so that `read_tsv` gives back the same strings."""
    # All cells are quoted and newlines left alone, so that a carriage return inside a cell stays one cell.
    with atomic_path(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        table.to_csv(file, sep="\t", index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")


def as_vlmevalkit_reads(table: pd.DataFrame) -> pd.DataFrame:
    """`table` as VLMEvalKit, which leaves types to pandas, sees its texts and options.

    "None", "NA", "null" and their like are missing values: such a hint or option is no longer there (""). A column of
    numbers is made of numbers, and of decimal ones where a cell is missing, so that 1 may become 1.0.
    """
    return table.assign(**_texts(_typed(table)))


def as_vlmevalkit_scores(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with its predictions as VLMEvalKit scores it: read as above, put into a spreadsheet, and read again.

    A missing prediction is the word nan. In a spreadsheet 1.0 is 1, a control character is written out (_x000D_), and
    longer cells are cut at 32,767 characters.
    """
    typed = _typed(table).assign(index=table["index"].to_numpy(), prediction=table["prediction"].to_numpy())
    sheet = io.BytesIO()
    as_theirs = {"options": {"strings_to_formulas": False}}
    with (
        warnings.catch_warnings(action="ignore"),  # of cells that are cut
        pd.ExcelWriter(sheet, engine="xlsxwriter", engine_kwargs=as_theirs) as writer,
    ):
        typed.to_excel(writer, index=False)
    read = _texts(pd.read_excel(sheet, engine="openpyxl").drop(columns="index"))
    return table.assign(**read | {"prediction": ["nan" if cell == "" else cell for cell in read["prediction"]]})


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    columns = [name for name in ("hint", "question", *LETTERS) if name in table]
    text = table[columns].to_csv(sep="\t", index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")
    return pd.read_csv(io.StringIO(text), sep="\t", low_memory=False)


def _texts(typed: pd.DataFrame) -> dict[str, list[str]]:
    """Columns in words, missing cells as ""."""
    words = typed.astype(object).where(typed.notna(), "")
    return {str(name): list(map(str, words[name])) for name in words}


def records(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of a table of strings as mappings."""
    return [{str(column): cell for column, cell in row.items()} for row in table.to_dict("records")]


def options(row: Mapping[str, str]) -> dict[str, str]:
    """Return the offered options of a row: letter to text, empty cells left out."""
    return {letter: row[letter] for letter in LETTERS if row.get(letter)}


def image_id(image: str) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a base64 image: equal for equal content."""
    return hashlib.sha256(image.encode()).hexdigest()[:12]


def decode_rgb(image: str, where: str) -> Image.Image:
    """Return a base64 image as RGB.

    Raises:
        UserError: it cannot be decoded. The line begins with `where` (file and row).
    """
    return open_rgb(_bytes(image, where), f"{where}: image")


def decode_image(image: str, where: str) -> Image.Image:
    """Return a base64 image in its own mode, for a processor that converts it.

    Raises:
        UserError: as `decode_rgb`.
    """
    return open_image(_bytes(image, where), f"{where}: image")


def inspect_encoded(image: str, where: str) -> Inspection:
    """Return what `inspect_image` says of a base64 image."""
    try:
        return inspect_image(_bytes(image, where), f"{where}: image")
    except UserError as error:
        return Inspection(str(error))


def _bytes(image: str, where: str) -> io.BytesIO:
    try:
        return io.BytesIO(base64.b64decode(image, validate=True))
    except ValueError:
        raise UserError(f"{where}: image: expected a base64 image") from None


def check_indices(table: pd.DataFrame, path: str | Path) -> None:
    """Check that `table` has rows and that their indices are whole numbers, each there once.

    Raises:
        UserError: it has none, or an index is none or repeated.
    """
    if table.empty:
        raise UserError(f"{path}: expected at least one row")
    for index in table["index"]:
        if not is_index(index):
            raise UserError(f"{path}: index: expected a whole number, found {index!r}")
    repeated = table["index"][table["index"].duplicated()]
    if len(repeated):
        raise UserError(f"{path}: index: {repeated.iloc[0]} occurs more than once")


def is_index(text: str) -> bool:
    """Tell whether `text` is a whole number that fits 64 bits, of 19 digits at most."""
    return text.isascii() and text.isdigit() and len(text) <= 19 and int(text) < 2**63


def _lines(text: str, path: str | Path) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    lines: list[list[str]] = []
    start = 1
    try:
        for line in reader:
            start = reader.line_num + 1
            lines += [line] if line else []
    except csv.Error:
        raise UserError(f"{path}: line {start}: a quotation mark at a cell's start must close at its end") from None
    return lines


def _is_foreign(cell: str) -> bool:
    """Tell whether `cell` holds bytes that are not UTF-8."""
    return not cell.isascii() and FOREIGN.search(cell) is not None


REJECTION_COLUMNS = ("row", "index", "why")


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
    """Add `found`, rows of the file `path`, to `rejected`.

    Raises:
        UserError: `rejected` is None and there is a row.
    """
    if found and rejected is None:
        raise UserError(f"{path}: {found[0]}")
    if rejected is not None:
        rejected += found


def write_list(rejected: Sequence[Rejection], path: Path) -> None:
    """Write `rejected` to `path` by place; no file where there is none."""
    if not rejected:
        path.unlink(missing_ok=True)
        return
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(REJECTION_COLUMNS)
    writer.writerows((row.place + 1, row.index, row.why) for row in sorted(rejected, key=lambda row: row.place))
    atomic_write(path, out.getvalue())
