"""A folder of predictions: its manifest says what each file must be, and nothing else is read of it.

``manifest.json`` is written last, so that a folder with one is whole; that it holds is seen at every reading. A
benchmark, a language or a row that is not the one that was predicted would otherwise give plausible numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from parrot.config.base import StrictModel, validate
from parrot.config.benchmarks import Benchmark, Control, prediction_file
from parrot.config.catalog import Language
from parrot.data.benchmarks import read_language
from parrot.data.tsv import check_indices, read_tsv
from parrot.errors import UserError
from parrot.io.digests import file_sha256
from parrot.io.files import check_regular, read_json, real_path, write_json

# Columns that describe a question and decide no answer: they may be named anew without asking a model again.
DESCRIPTION = ("category", "l2-category", "split", "image_source", "difficulty", "unseen_in_language")


class Predicted(StrictModel):
    """What a prediction file holds the answers to, and how many."""

    benchmark_sha256: str
    language: Language
    control: Control
    rows: int
    rejected: int
    columns_sha256: str  # of all but `DESCRIPTION`, see `columns_sha256`


class Manifest(StrictModel):
    """What was predicted, by file name, and the digest of the weights that it was predicted with."""

    model_sha256: str
    files: dict[str, Predicted]


def write_manifest(folder: Path, model_sha256: str, files: Mapping[str, Predicted]) -> None:
    """Write ``manifest.json`` beside the prediction files that it names, all of which are there already."""
    manifest = Manifest(model_sha256=model_sha256, files=dict(files))
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))


def remove_manifest(folder: Path) -> None:
    """Say that `folder` is not whole, before its files are written anew."""
    (folder / "manifest.json").unlink(missing_ok=True)


def predicted(
    table: pd.DataFrame, source_sha256: str, language: Language, control: Control, rejected: int
) -> Predicted:
    """Describe predictions `table`, whose benchmark file had the digest `source_sha256`, as the manifest does."""
    return Predicted(
        benchmark_sha256=source_sha256,
        language=language,
        control=control,
        rows=len(table),
        rejected=rejected,
        columns_sha256=columns_sha256(table),
    )


def benchmark_sha256(path: Path) -> str:
    """Digest of a benchmark's file.

    Raises:
        UserError: it cannot be read.
    """
    check_regular(path)
    try:
        state = path.stat()
        return _sha256(real_path(path), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of `folder`.

    Raises:
        UserError: there is none or it is malformed; the line says what to do.
    """
    path = folder / "manifest.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: cannot be read: no such folder; expected a run's predictions")
    if not path.exists():
        why = "the predictions are incomplete, or of a version that wrote none"
        raise UserError(f"{path}: no such file; {why}; {again(folder)}")
    try:
        return validate(Manifest, read_json(path), str(path))
    except UserError as error:
        raise UserError(f"{error}; {again(folder)}") from None


def read_predictions(
    benchmark: Benchmark,
    language: Language,
    folder: Path,
    control: Control = "none",
    required: Iterable[str] = (),
) -> pd.DataFrame:
    """Read the predictions in `folder` for a benchmark's file in `language` under `control`; every cell is a string.

    Raises:
        UserError: the rows are not those of the benchmark file as it is, or lack a column of `required`; the line says
            what to do.
    """
    path = prediction_file(folder, benchmark.files[language], control)
    source = Path(benchmark.folder, benchmark.files[language])
    said = _said(folder, path, language, control)
    found = benchmark_sha256(source)
    if found != said.benchmark_sha256:
        expected = f"expected sha256 {said.benchmark_sha256}, found {found}"
        raise UserError(f"{path}: predictions for another file than {source} is now: {expected}; {again(folder)}")
    try:
        table = read_tsv(path, ("index", *required))
        check_indices(table, path)
    except UserError as error:
        raise UserError(f"{error}; {again(folder)}") from None
    if len(table) != said.rows:
        raise UserError(f"{path}: rows: expected {said.rows}, found {len(table)}; {again(folder)}")
    if columns_sha256(table) != said.columns_sha256:
        raise UserError(f"{path}: {_changed(table, benchmark, language, source)}; {again(folder)}")
    return table


def read_rejected(benchmark: Benchmark, folder: Path, control: Control = "none") -> dict[Language, int]:
    """Count the rows of each language's file that were not predicted under `control`.

    Raises:
        UserError: as `read_manifest`.
    """
    return {
        language: _said(folder, prediction_file(folder, file, control), language, control).rejected
        for language, file in benchmark.files.items()
    }


def again(folder: Path) -> str:
    """How predictions that cannot be believed are made anew."""
    return f"remove {folder} and predict again"


def columns_sha256(table: pd.DataFrame) -> str:
    """Digest of the cells of all columns but `DESCRIPTION`, in their order."""
    kept = table.drop(columns=[name for name in DESCRIPTION if name in table])
    return hashlib.sha256(json.dumps([list(kept), *kept.to_numpy().tolist()]).encode()).hexdigest()


def _said(folder: Path, path: Path, language: Language, control: Control) -> Predicted:
    said = read_manifest(folder).files.get(path.name)
    where = f"{folder / 'manifest.json'}: files"
    if said is None:
        raise UserError(f"{where}: expected {path.name} among what was predicted; {again(folder)}")
    for name, expected, found in (("language", language, said.language), ("control", control, said.control)):
        if found != expected:
            raise UserError(f"{where}.{path.name}.{name}: expected {expected}, found {found}; {again(folder)}")
    return said


def _changed(table: pd.DataFrame, benchmark: Benchmark, language: Language, source: Path) -> str:
    """Where `table` is not what was predicted, as far as the benchmark's file tells."""
    benchmark_rows = read_language(benchmark, language)[0]
    places = {index: place for place, index in enumerate(benchmark_rows["index"])}
    answers = dict(zip(benchmark_rows["index"], benchmark_rows.get("answer", benchmark_rows["index"]), strict=True))
    last = -1
    for index, answer in zip(table["index"], table.get("answer", table["index"]), strict=True):
        if places.get(index, -1) <= last:
            return f"row {index}: index: expected the rows of {source} in their order"
        if answer != answers[index]:
            return f"row {index}: answer: expected {answers[index]!r} as in {source}, found {answer!r}"
        last = places[index]
    return "expected the cells that were predicted, found others"


@cache
def _sha256(path: Path, size: int, modified: int) -> str:
    """Return a file's digest, computed once as long as the file stays as it is."""
    return file_sha256(path)
