"""graded.csv, the one place where predictions are graded: a row for each item that was asked, and how well it went.

The columns suit any kind of benchmark. `score` is from 0 to 1, or in the metric's own unit (a judge's rating, a caption
metric, a log-likelihood); `hit` is 1 where the prediction is right and empty where a score is neither right nor wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from parrot.config.benchmarks import Benchmark, Control
from parrot.constants import LANGUAGES
from parrot.data.tsv import ROTATION
from parrot.errors import UserError
from parrot.io.csv_tables import read_csv, remade, to_csv
from parrot.io.files import atomic_write

# What says which prediction a row grades.
IDENTITY = ("run", "benchmark", "language", "control", "index")
DESCRIPTION = ("image_sha256", "image_source", "category", "l2_category", "split", "difficulty", "unseen_in_language")
COUNTS = ("index", "item", "rotation", "options")
MEASURES = ("score", "reference_score", "hit", "unmatched", "other_language")
COLUMNS = (*IDENTITY, "item", "rotation", *DESCRIPTION, "pair_id", "options", *MEASURES, "prediction_sha256")
# Columns that need another value than 0 or 1.
UNBOUNDED = ("score", "reference_score")
TEXTS = tuple(column for column in COLUMNS if column not in (*COUNTS, *MEASURES))
DIGITS = 12


def described(predictions: pd.DataFrame, language: str) -> pd.DataFrame:
    """Start the rows of a prediction file in `language`: what is known of each but where it was asked and how well."""
    found = {
        "language": language,
        "index": predictions["index"].astype(np.int64),
        "image_sha256": predictions.get("image_sha256", ""),
        "image_source": predictions.get("image_source", ""),
        "l2_category": predictions.get("l2-category", ""),
        "prediction_sha256": prediction_sha256(predictions["prediction"]),
    }
    same = ("category", "split", "difficulty", "unseen_in_language", "pair_id")
    return pd.DataFrame(found | {name: predictions.get(name, "") for name in same}, index=predictions.index)


def placed(rows: pd.DataFrame, benchmark: Benchmark, control: Control) -> pd.DataFrame:
    """Say where graded rows were asked; rows that rotate the options of one circular question are one item."""
    circular = benchmark.scoring == "circular"
    item = rows["index"] % ROTATION if circular else rows["index"]
    rotation = rows["index"] // ROTATION if circular else 0
    return rows.assign(benchmark=benchmark.name, control=control, item=item, rotation=rotation)


def prediction_sha256(predictions: Iterable[str]) -> list[str]:
    """Digest each prediction, by which a reader of its text sees that the grade is of this one: 12 digits."""
    return [hashlib.sha256(text.encode()).hexdigest()[:DIGITS] for text in predictions]


def write_graded(parts: Iterable[pd.DataFrame], path: Path) -> None:
    """Write graded rows, which have all of `COLUMNS`, one part below the other."""
    lines = (
        [_in_words(cell) for cell in row]
        for part in parts
        for row in zip(*(part[column].tolist() for column in COLUMNS), strict=True)
    )
    atomic_write(path, to_csv([COLUMNS, *lines]))


def read_graded(path: Path, run: str) -> pd.DataFrame:
    """Read the graded rows of a run and of the stage 1 below it; numbers that are absent are NaN.

    Raises:
        UserError: the file is not whole (see `parrot.io.csv_tables.read_csv`), a cell is not what its column holds,
            two rows grade one prediction, or no row is of `run`.
    """
    table = pd.DataFrame(read_csv(path, COLUMNS), columns=list(COLUMNS), dtype=object)
    controls = get_args(Control)
    _refuse(~table["language"].isin(list(LANGUAGES)), table, "language", "a language's code", path)
    _refuse(~table["control"].isin(controls), table, "control", f"one of {', '.join(controls)}", path)
    for column in COUNTS:
        whole = table[column].str.fullmatch(r"[0-9]{1,18}")
        _refuse(~whole.astype(bool), table, column, "a whole number", path)
        table[column] = table[column].astype(np.int64)
    for column in MEASURES:
        numbers = pd.to_numeric(table[column].mask(table[column] == ""), errors="coerce").astype(np.float64)
        _refuse((table[column] != "") & ~np.isfinite(numbers), table, column, "a number or nothing", path)
        if column not in UNBOUNDED:
            _refuse(~numbers.isin([0, 1]) & numbers.notna(), table, column, "0, 1 or nothing", path)
        table[column] = numbers
    twice = table.duplicated(list(IDENTITY))
    _refuse(twice, table, "index", "every prediction once", path)
    if not (table["run"] == run).any():
        raise UserError(f"{path}: run: expected rows of {run}, found {table['run'][0]}; {remade(path)}")
    return table


def select(graded: pd.DataFrame, **where: str) -> pd.DataFrame:
    """Select the rows whose columns have these values."""
    return graded[(graded[list(where)] == pd.Series(where)).all(axis=1)]


def of_predictions(graded: pd.DataFrame, predictions: pd.DataFrame, path: Path, **where: str) -> pd.DataFrame:
    """Select the rows that grade a table of `predictions`, in its order; `where` it was asked, as in `select`.

    Raises:
        UserError: `graded`, which was read from `path`, grades other predictions.
    """
    rows = select(graded, **where)
    said = [predictions["index"].astype(np.int64).tolist(), prediction_sha256(predictions["prediction"])]
    if [rows["index"].tolist(), rows["prediction_sha256"].tolist()] != said:
        what = ", ".join(where.values())
        raise UserError(f"{path}: {what}: grades other predictions than there are now; {remade(path)}")
    return rows


def images(rows: pd.DataFrame) -> pd.Series:
    """Name the image of every row, by which rows depend on each other.

    Rows without one in their predictions (files made elsewhere) stand each for itself.
    """
    known = rows["image_sha256"]
    return known.where(known != "", rows["index"].astype(str))


def _refuse(faulty: pd.Series, table: pd.DataFrame, column: str, expected: str, path: Path) -> None:
    if faulty.any():
        place = int(faulty.to_numpy().argmax())
        found = f"expected {expected}, found {table[column].tolist()[place]!r}"
        raise UserError(f"{path}: line {place + 2}: {column}: {found}; {remade(path)}")


def _in_words(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.12g}"
    return str(value)
