"""A run's answers as its page shows them: what was asked, shown and answered, and whether that is right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import FiniteFloat, Json

from parrot.config.base import validate
from parrot.config.catalog import KINDS, Benchmark, Control, Language, prediction_file
from parrot.data.tsv import ROTATION, options, records
from parrot.errors import UserError
from parrot.evaluate.graded_csv import of_predictions, read_graded
from parrot.evaluate.grading import prompt_language_of
from parrot.evaluate.predictions import read_predictions
from parrot.report.settings import BrowseStage

REQUIRED = ("question", "prediction", "prompt_sha256", "image_sha256", "router_weights")
# A rating, which is neither right nor wrong, is told in the run's scores alone.
Outcome = Literal["right", "wrong", "unmatched", "judged"]
# What a control puts in the image's place.
NEEDED: dict[Control, tuple[str, ...]] = {"none": (), "shuffled": ("shuffled",), "text": ("image_text",)}


@dataclass(frozen=True)
class BrowseRow:
    """One row of a prediction file.

    `image` is the id of the image that the model was shown, "" for none, and `scene` that image in words, where
    the benchmark has them. `options` are () where none were offered, `weights` (of the router) for a run without any.
    """

    benchmark: str
    language: Language
    text_language: Language  # what the texts are in: English where they were translated
    control: Control
    index: int
    number: int  # of the question, whichever its rotation
    category: str
    image_source: str
    question: str
    hint: str
    options: tuple[tuple[str, str], ...]
    answer: str
    prediction: str
    outcome: Outcome
    weights: tuple[float, ...]
    image: str
    scene: str


def read_browse_rows(settings: BrowseStage, predictions: Path, graded: Path) -> list[BrowseRow]:
    """List all answers in a run's folder of predictions, control after control, those to one question side by side.

    Raises:
        UserError: a file is missing or malformed, or `graded`, the run's graded.csv, grades other predictions.
    """
    grades = read_graded(graded, settings.run)
    answers = []
    for benchmark in settings.benchmarks:
        controls = [control for control in settings.controls if control in benchmark.controls]
        sheets = [
            answer
            for language in benchmark.files
            for answer in _read(settings, benchmark, language, controls, predictions, grades, graded)
        ]
        answers += sorted(sheets, key=lambda answer: (controls.index(answer.control), answer.number))
    return answers


def choose(answers: Sequence[BrowseRow], most: int) -> list[BrowseRow]:
    """At most `most` answers, in their order: whole questions, drawn by a digest of benchmark and number.

    The draw does not depend on the run, whose pages can so be compared. One question is shown whatever its size.
    """
    sizes: dict[tuple[str, int], int] = {}
    for answer in answers:
        sizes[answer.benchmark, answer.number] = sizes.get((answer.benchmark, answer.number), 0) + 1
    chosen: set[tuple[str, int]] = set()
    total = 0
    for question in sorted(sizes, key=_order):
        total += sizes[question]
        if total > most and chosen:
            break
        chosen.add(question)
    return [answer for answer in answers if (answer.benchmark, answer.number) in chosen]


def _order(question: tuple[str, int]) -> str:
    benchmark, number = question
    return hashlib.sha256(f"{benchmark}:{number}".encode()).hexdigest()


def _read(
    settings: BrowseStage,
    benchmark: Benchmark,
    language: Language,
    controls: Sequence[Control],
    folder: Path,
    grades: pd.DataFrame,
    graded: Path,
) -> Iterator[BrowseRow]:
    paths = {control: prediction_file(folder, benchmark.files[language], control) for control in controls}
    required = (*REQUIRED, KINDS[benchmark.kind].expected)
    tables = {
        control: read_predictions(benchmark, language, folder, control, (*required, *NEEDED[control]))
        for control in controls
    }
    # A row that one control leaves out may be what another one shows.
    rows = {row["index"]: row for table in tables.values() for row in records(table)}
    for control, table in tables.items():
        path = paths[control]
        texts = [text or "[]" for text in table["router_weights"]]
        weights = validate(tuple[Json[tuple[FiniteFloat, ...]], ...], texts, f"{path}: router_weights")
        where = {"run": settings.run, "benchmark": benchmark.name, "language": language, "control": control}
        outcomes = _outcomes(of_predictions(grades, table, graded, **where))
        for row, outcome, experts in zip(records(table), outcomes, weights, strict=True):
            seen = rows.get(row["shuffled"]) if control == "shuffled" else row
            if seen is None:
                raise UserError(f"{path}: row {row['index']}: shuffled: expected the index of another row")
            words = prompt_language_of(language, settings)
            yield _answer(benchmark, language, words, control, row, seen, outcome, experts)


def _outcomes(rows: pd.DataFrame) -> list[Outcome]:
    """Return each graded row's outcome; a rating is neither right nor wrong."""
    return [
        "judged" if np.isnan(hit) else "right" if hit else "unmatched" if unmatched else "wrong"
        for hit, unmatched in zip(rows["hit"], rows["unmatched"], strict=True)
    ]


def _answer(
    benchmark: Benchmark,
    language: Language,
    words: Language,
    control: Control,
    row: Mapping[str, str],
    seen: Mapping[str, str],
    outcome: Outcome,
    weights: tuple[float, ...],
) -> BrowseRow:
    """Return the page's row for `row`, when the image was that of the row `seen`."""
    index = int(row["index"])
    return BrowseRow(
        benchmark=benchmark.name,
        language=language,
        text_language=words,
        control=control,
        index=index,
        number=index % ROTATION if benchmark.scoring == "circular" else index,
        category=row.get("category", ""),
        image_source=row.get("image_source", ""),
        question=row["question"],
        hint=row.get("hint", ""),
        options=tuple(options(row).items()),
        answer=row[KINDS[benchmark.kind].expected],
        prediction=row["prediction"],
        outcome=outcome,
        weights=weights,
        image="" if control == "text" else seen["image_sha256"],
        scene=seen.get("image_text", ""),
    )
