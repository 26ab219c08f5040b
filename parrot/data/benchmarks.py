"""Reading a benchmark: what every row must be for its prediction and grading."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from parrot.config.benchmarks import KINDS, Benchmark, Control, Kind
from parrot.config.catalog import Language
from parrot.config.limits import limits
from parrot.constants import IMAGE_TOKEN
from parrot.data.tsv import (
    L2,
    ROTATION,
    SUBSETS,
    Rejection,
    decode_rgb,
    is_index,
    options,
    read_tsv,
    records,
    reject,
)
from parrot.errors import UserError

# In VLMEvalKit's files an image cell this short is the index of the row that holds the image (rotations use it).
LONGEST_REFERENCE = 64

RENAMED = {"house": "image_source", "picture_text": "image_text"}  # columns, by their names in version 0.1
# What scores.csv calls parts of a benchmark, and nothing in a file may be called.
TAKEN = {"category": ("all", *SUBSETS), "split": ("all",), "image_source": ("all",)}

Faults = dict[int, str]
"""What is wrong with rows, by their place."""


def read_language(benchmark: Benchmark, language: Language) -> tuple[pd.DataFrame, list[Rejection]]:
    """Return the rows of a benchmark's file in `language`, and those rejected where its entry says to list them.

    Raises:
        UserError: as in `read_benchmark`.
    """
    path = Path(benchmark.folder, benchmark.files[language])
    rejected: list[Rejection] = []
    listed = rejected if benchmark.rejected_rows == "list" else None
    rotations_agree = benchmark.rotations_agree and benchmark.scoring == "circular"
    return read_benchmark(path, listed, rotations_agree, benchmark.kind), rejected


def read_benchmark(
    path: str | Path,
    rejected: list[Rejection] | None = None,
    rotations_agree: bool = True,
    kind: Kind = "multiple_choice",
) -> pd.DataFrame:
    """Return a benchmark's rows by their place in the file, `image` always in base64: resolve references.

    Every row has a whole-number index of its own, an answer that its `kind` of question can have, and no placeholder of
    an image in its texts. With `rotations_agree` the right option of all rotations of a question reads the same.

    With a list `rejected`, rows that are not so are named there and left out, and so are those whose image cannot be
    read (which otherwise is found by `parrot fetch`, or when the image is used).

    Raises:
        UserError: a row is not so and there is no list `rejected`, or no row is left; or the file is not a TSV with
            the columns of its kind, has a cell that swallowed rows, or gives a category, split or image source a name
            of `TAKEN`.
    """
    table = read_tsv(path, KINDS[kind].columns, rejected)
    if table.empty and not rejected:
        raise UserError(f"{path}: expected at least one row")
    _check_quotes(table, path)
    _check_names(table, path)
    table = _without(_indices(table), table, path, rejected)
    table = _without(_references(table), table, path, rejected)
    # Before rows with other faults are left out: their images may be what sound rows refer to.
    table["image"] = _resolved(table)
    table = _without(_texts(table), table, path, rejected)
    if KINDS[kind].matched:
        table = _without(_answers(table, kind), table, path, rejected)
    if KINDS[kind].matched and not KINDS[kind].choices and rotations_agree:
        table = _without(_rotations(table), table, path, rejected)
    if rejected is not None:
        table = _without(_images(table), table, path, rejected)
        if table.empty:
            raise UserError(f"{path}: all {len(rejected)} rows are rejected; the first: {rejected[0]}")
    return table


def without_control(table: pd.DataFrame, control: Control) -> list[Rejection]:
    """List the rows that lack what asking them under `control` takes."""
    lacking = pd.Series(False, index=table.index)
    why = ""
    if control == "text":
        lacking = table.get("image_text", lacking.map({False: ""})) == ""
        why = "image_text: expected the image in words, for the control text"
    if control == "shuffled":
        lacking = ~table.get("shuffled", lacking.map({False: ""})).isin(table["index"])
        why = "shuffled: expected the index of another row, for the control shuffled"
    return [Rejection(int(place), table["index"][place], why) for place in table.index[lacking]]


def check_parallel(tables: Mapping[Language, pd.DataFrame], name: str) -> None:
    """Check that all languages of benchmark `name` have the same rows: index, right letter and image.

    Raises:
        UserError: two of them differ.
    """
    (first, reference), *others = tables.items()
    for language, table in others:
        if list(table["index"]) != list(reference["index"]):
            odd = sorted(set(table["index"]) ^ set(reference["index"])) or ["order"]
            raise UserError(f"{name}: index: {language} and {first} should hold the same rows; differs: {odd[0]}")
        for column in [name for name in ("answer", "image") if name in table]:
            differs = (table[column] != reference[column]).to_numpy()
            if differs.any():
                row = table["index"].iloc[int(differs.argmax())]
                raise UserError(f"{name}: row {row}: {column}: expected the same in {language} and {first}")


def _check_quotes(table: pd.DataFrame, path: str | Path) -> None:
    """Check that no quotation mark of one row is closed by another row's.

    From a cell of one row to the same one of another there are as many tabs as in a row, so that how many rows are lost
    within cannot be told.

    Raises:
        UserError: one is.
    """
    for column in table:
        odd = table[column].str.contains("\n") & (table[column].str.count("\t") >= len(table.columns) - 1)
        if odd.any():
            index = table["index"][odd].iloc[0]
            raise UserError(f"{path}: row {index}: {column}: a quotation mark at its start is closed in another row")


def _check_names(table: pd.DataFrame, path: str | Path) -> None:
    for former, column in RENAMED.items():
        if former in table and column not in table:
            raise UserError(f"{path}: column {former}: expected {column}, its name since version 0.2")
    for column, taken in TAKEN.items():
        for name in table[column].unique() if column in table else ():
            if name in taken or name.startswith(L2):
                raise UserError(f"{path}: {column}: expected another name than {name}, by which scores have a subset")


def _without(faults: Faults, table: pd.DataFrame, path: str | Path, rejected: list[Rejection] | None) -> pd.DataFrame:
    reject([Rejection(place, table["index"][place], why) for place, why in faults.items()], path, rejected)
    return table.drop(index=list(faults))


def _by_place(column: pd.Series) -> Iterator[tuple[int, Any]]:
    return zip(column.index.to_list(), column.to_list(), strict=True)


def _indices(table: pd.DataFrame) -> Faults:
    faults = {
        place: f"index: expected a whole number, found {index!r}"
        for place, index in _by_place(table["index"])
        if not is_index(index)
    }
    numbers = table["index"].drop(index=list(faults)).map(int)
    # Which of them is meant cannot be known, so that none of them is.
    twice = numbers[numbers.duplicated(keep=False)]
    return faults | {place: f"index: {number} occurs more than once" for place, number in _by_place(twice)}


def _texts(table: pd.DataFrame) -> Faults:
    faults = {}
    for place, row in zip(table.index, records(table), strict=True):
        if any(IMAGE_TOKEN in text for text in (row.get("hint", ""), row["question"], *options(row).values())):
            faults[place] = f"expected no {IMAGE_TOKEN} in the text; it stands for the image"
        blank = [name for name, text in ({"question": row["question"]} | options(row)).items() if not text.strip()]
        if blank:
            faults[place] = f"{blank[0]}: expected some text, found none"
        try:
            for column, text in row.items():
                if column != "image":
                    limits().check_text(text, column)
        except UserError as error:
            faults[place] = str(error)
        if not _names(row.get("answer_names") or "{}"):
            faults[place] = "answer_names: expected a JSON object of texts by language"
    return faults


def _names(text: str) -> bool:
    """Tell whether `text` is a JSON object of texts."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(names, dict) and all(isinstance(name, str) for name in names.values())


def _answers(table: pd.DataFrame, kind: Kind) -> Faults:
    faults = {}
    for place, row in zip(table.index, records(table), strict=True):
        offered = KINDS[kind].choices or tuple(options(row))
        if row["answer"] not in offered:
            expected = f"expected one of {', '.join(offered) or 'A to Z, but all are empty'}"
            faults[place] = f"answer {row['answer']!r} is not an offered option; {expected}"
    return faults


def _references(table: pd.DataFrame) -> Faults:
    shown = {index for index, image in zip(table["index"], table["image"], strict=True) if not _refers(image)}
    return {
        place: "image: expected a base64 image or the index of a row with one"
        for place, image in _by_place(table["image"])
        if _refers(image) and image not in shown
    }


def _resolved(table: pd.DataFrame) -> list[str]:
    images = dict(zip(table["index"], table["image"], strict=True))
    return [images[image] if _refers(image) else image for image in table["image"]]


def _refers(image: str) -> bool:
    return len(image) <= LONGEST_REFERENCE


def _rotations(table: pd.DataFrame) -> Faults:
    right = pd.Series([row[row["answer"]] for row in records(table)], index=table.index, dtype=str)
    faults: Faults = {}
    question = np.array([int(index) % ROTATION for index in table["index"]], dtype=np.int64)
    for _, texts in right.groupby(question):
        if texts.nunique() > 1:
            one, other = texts.unique()[:2]
            why = f"answer: rotations permute the options, but {one!r} and {other!r} are the right ones of one question"
            faults |= dict.fromkeys(texts.index, why)
    return faults


def _images(table: pd.DataFrame) -> Faults:
    """Images that cannot be decoded, each distinct one tried once."""
    broken: dict[str, str] = {}
    for image in table["image"].unique():
        try:
            decode_rgb(image, "")
        except UserError as error:
            broken[image] = str(error).removeprefix(": ")
    return {place: broken[image] for place, image in _by_place(table["image"]) if image in broken}
