"""Sample predictions for the page: all languages, right and wrong ones, the same for the same predictions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import Language
from parrot.constants import LANGUAGES
from parrot.data.benchmarks import read_language
from parrot.data.tsv import options, records
from parrot.evaluate.graded_csv import of_predictions
from parrot.evaluate.predictions import read_predictions
from parrot.report.comparisons import Items
from parrot.report.settings import ReportStage


@dataclass(frozen=True)
class SamplePrediction:
    """A run's prediction for a sample."""

    run: str
    text: str
    right: bool


@dataclass(frozen=True)
class Sample:
    """A question and what each run predicted; `image` is a data URI."""

    language: Language
    index: str
    question: str
    options: dict[str, str]
    answer: str
    image_source: str
    category: str
    scene: str
    image: str
    predictions: tuple[SamplePrediction, ...]


def choose(settings: ReportStage, results: Path, items: Items) -> list[Sample]:
    """`settings.samples` questions of the first vanilla benchmark; none where every benchmark is circular.

    Languages take turns, and so do right and wrong predictions of the first run, where there are both.
    """
    benchmark = next((b for b in settings.benchmarks if b.scoring == "vanilla"), None)
    if benchmark is None or not settings.samples:
        return []
    graded = {run.name: items.load(run.name, benchmark.name) for run in settings.runs}
    chosen = _choose(graded[settings.runs[0].name], settings.samples)
    images = _images(benchmark, {index for _, index in chosen})
    by_run = {run.name: _predictions(results, run.name, benchmark, items) for run in settings.runs}
    samples = []
    for language, index in chosen:
        predictions = tuple(
            SamplePrediction(run, rows[language, index]["prediction"], _hit(graded[run], language, index))
            for run, rows in by_run.items()
        )
        row = by_run[settings.runs[0].name][language, index]
        samples.append(_sample(language, index, row, images[index], predictions))
    return samples


def _choose(graded: pd.DataFrame, wanted: int) -> list[tuple[Language, int]]:
    languages = [language for language in LANGUAGES if (graded["language"] == language).any()]
    pool = graded.assign(
        order=[_order(language, i) for language, i in zip(graded["language"], graded["index"], strict=True)]
    )
    chosen: list[tuple[Language, int]] = []
    for turn in range(min(wanted, len(pool))):
        language = languages[turn % len(languages)]
        # Each round begins with the other outcome, so that a language shows both in two rounds.
        right = (turn + turn // len(languages)) % 2 == 0
        shown = graded[graded["index"].isin([index for _, index in chosen])]
        candidates = pool[(pool["language"] == language) & ~pool["image"].isin(shown["image"])]
        if candidates.empty:
            continue
        # False sorts first: the wanted outcome, then a category not shown yet, then by digest.
        best = candidates.assign(
            other_outcome=candidates["hit"] != right, repeated=candidates["category"].isin(shown["category"])
        ).sort_values(["other_outcome", "repeated", "order"])
        chosen.append((language, int(best["index"].iloc[0])))
    return chosen


def _images(benchmark: Benchmark, wanted: set[int]) -> dict[int, str]:
    """Return the images of the rows `wanted`: all are in the first language's file, unless some rows are rejected."""
    found: dict[int, str] = {}
    for language in benchmark.files:
        if wanted <= found.keys():
            break
        source, _ = read_language(benchmark, language)
        found = dict(zip(source["index"].map(int), source["image"], strict=True)) | found
    return found


def _order(language: str, index: int) -> str:
    return hashlib.sha256(f"{language}:{index}".encode()).hexdigest()


def _predictions(
    results: Path, run: str, benchmark: Benchmark, items: Items
) -> dict[tuple[Language, int], dict[str, str]]:
    found: dict[tuple[Language, int], dict[str, str]] = {}
    for language in benchmark.files:
        table = read_predictions(benchmark, language, results / run / "predictions", required=("prediction",))
        where = {"run": run, "benchmark": benchmark.name, "language": language, "control": "none"}
        of_predictions(items.graded(run), table, items.path(run), **where)
        found |= {(language, int(row["index"])): row for row in records(table)}
    return found


def _hit(graded: pd.DataFrame, language: str, index: int) -> bool:
    return bool(graded.loc[(graded["language"] == language) & (graded["index"] == index), "hit"].iloc[0])


def _sample(
    language: Language, index: int, row: dict[str, str], image: str, predictions: tuple[SamplePrediction, ...]
) -> Sample:
    kind = "jpeg" if image.startswith("/9j/") else "png"
    return Sample(
        language=language,
        index=str(index),
        question=row["question"],
        options=options(row),
        answer=row["answer"],
        image_source=row.get("image_source", ""),
        category=row.get("category", ""),
        scene=row.get("image_text", ""),
        image=f"data:image/{kind};base64,{image}",
        predictions=predictions,
    )
