"""Benchmark and prediction tables: VLMEvalKit-style TSVs in which every cell stays the string it is.

"None", "NA" and "null" are answers like any other, so nothing is ever read as a missing value; an empty cell is "".
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import string
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError

from parrot.config import ConfigError, Control
from parrot.files import atomic_path

LETTERS = string.ascii_uppercase
REQUIRED = ("index", "question", "A", "B", "answer", "image")
# Python's csv module refuses cells beyond 128 KiB by default; base64 pictures are larger.
csv.field_size_limit(2**31 - 1)
# In VLMEvalKit's files an image cell this short is the index of the row that holds the picture (rotations use it).
LONGEST_REFERENCE = 64


def read_tsv(path: str | Path, required: Iterable[str] = ()) -> pd.DataFrame:
    """All cells of `path` as strings; ConfigError when it cannot be read, is ragged or lacks a `required` column."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, delimiter="\t", strict=True))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: expected a UTF-8 TSV: {_one_line(error)}") from None
    header, *rows = lines or [[]]
    for column in (*required, *header):
        if header.count(column) != 1:
            found = "no" if column not in header else "more than one"
            raise ConfigError(f"{path}: {found} column {column}; expected a header line with {', '.join(required)}")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ConfigError(f"{path}: row {number}: expected {len(header)} cells, found {len(row)}")
    return pd.DataFrame(rows, columns=header, dtype=str)


def write_tsv(table: pd.DataFrame, path: str | Path) -> None:
    """Write `table` as a whole, so that `read_tsv` gives back the same strings."""
    # All cells are quoted and newlines left alone, so that a carriage return inside a cell stays one cell.
    with atomic_path(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        table.to_csv(file, sep="\t", index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")


def read_benchmark(path: str | Path) -> pd.DataFrame:
    """A benchmark's rows, checked: unique whole-number indices, and an answer among the offered options.

    `image` always holds a base64 picture: references to other rows' pictures are resolved.
    """
    table = read_tsv(path, REQUIRED)
    check_indices(table, path)
    for row in records(table):
        offered = options(row)
        if row["answer"] not in offered:
            raise ConfigError(
                f"{path}: row {row['index']}: answer {row['answer']!r} is not an offered option; "
                f"expected one of {', '.join(offered) or 'A to Z, but all are empty'}"
            )
    table["image"] = _resolve_references(table, path)
    return table


def as_vlmevalkit_reads(table: pd.DataFrame) -> pd.DataFrame:
    """`table` as VLMEvalKit, which leaves types to pandas, sees its texts, options and predictions.

    "None", "NA", "null" and their like are missing values: such a hint or option is no longer there (""), and such a
    prediction is the word nan. A column of numbers is made of numbers, and of decimal ones where a cell is missing, so
    that 1 may become 1.0.
    """
    columns = [name for name in ("hint", "question", *LETTERS, "prediction") if name in table]
    text = table[columns].to_csv(sep="\t", index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")
    typed = pd.read_csv(io.StringIO(text), sep="\t", low_memory=False)
    read = typed.astype(object).where(typed.notna(), "").map(str)
    if "prediction" in read:
        read["prediction"] = read["prediction"].replace("", "nan")
    return table.assign(**{name: read[name].to_numpy() for name in columns})


def prediction_file(folder: Path, stem: str, control: Control) -> Path:
    """Where the predictions of one benchmark file under one control lie."""
    return folder / (f"{stem}.tsv" if control == "none" else f"{stem}.{control}.tsv")


def records(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of a table of strings as mappings."""
    return [{str(column): cell for column, cell in row.items()} for row in table.to_dict("records")]


def options(row: Mapping[str, str]) -> dict[str, str]:
    """The offered options of a row: letter to text, empty cells left out."""
    return {letter: row[letter] for letter in LETTERS if row.get(letter)}


def picture_id(image: str) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a base64 picture: equal for equal content."""
    return hashlib.sha256(image.encode()).hexdigest()[:12]


def decode_picture(image: str, where: str) -> Image.Image:
    """A base64 picture as RGB; ConfigError starting with `where` (file and row) when it cannot be decoded."""
    try:
        return open_picture(io.BytesIO(base64.b64decode(image, validate=True)), where)
    except binascii.Error:
        raise ConfigError(f"{where}: image: expected a base64 picture") from None


def open_picture(source: str | Path | io.BytesIO, where: str) -> Image.Image:
    """A picture file as RGB; ConfigError starting with `where` when it is missing, corrupt or too large to be safe."""
    try:
        with Image.open(source) as picture:
            return picture.convert("RGB")
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such picture") from None
    # Pillow's decoders raise many kinds of errors on corrupt input.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        why = "unknown format" if isinstance(error, UnidentifiedImageError) else _one_line(error)
        raise ConfigError(f"{where}: expected a readable picture: {why}") from None


def check_parallel(tables: Mapping[str, pd.DataFrame], name: str) -> None:
    """ConfigError unless all languages of benchmark `name` ask the same rows: index, right letter and picture."""
    (first, reference), *others = tables.items()
    for language, table in others:
        if list(table["index"]) != list(reference["index"]):
            odd = sorted(set(table["index"]) ^ set(reference["index"])) or ["order"]
            raise ConfigError(f"{name}: index: {language} and {first} should hold the same rows; differs: {odd[0]}")
        for column in ("answer", "image"):
            differs = (table[column] != reference[column]).to_numpy()
            if differs.any():
                row = table["index"].iloc[int(differs.argmax())]
                raise ConfigError(f"{name}: row {row}: {column}: expected the same in {language} and {first}")


def check_indices(table: pd.DataFrame, path: str | Path) -> None:
    """ConfigError unless `table` has rows and their indices are whole numbers, each there once."""
    if table.empty:
        raise ConfigError(f"{path}: expected at least one row")
    for index in table["index"]:
        if not (index.isascii() and index.isdigit()):
            raise ConfigError(f"{path}: index: expected a whole number, found {index!r}")
    repeated = table["index"][table["index"].duplicated()]
    if len(repeated):
        raise ConfigError(f"{path}: index: {repeated.iloc[0]} occurs more than once")


def _resolve_references(table: pd.DataFrame, path: str | Path) -> list[str]:
    pictures = dict(zip(table["index"], table["image"], strict=True))
    resolved = []
    for index, image in pictures.items():
        target = pictures.get(image, "") if len(image) <= LONGEST_REFERENCE else image
        if len(target) <= LONGEST_REFERENCE:
            raise ConfigError(f"{path}: row {index}: image: expected a base64 picture or the index of a row with one")
        resolved.append(target)
    return resolved


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
