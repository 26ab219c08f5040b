"""`parrot score`: one run's predictions to its rows of scores.csv. Deterministic, and needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from parrot.config.catalog import Benchmark, Control, Scoring
from parrot.config.settings import Conventions
from parrot.config.stages import ScoreSettings
from parrot.evaluate.accuracy import by_kind, by_value, scorings, units
from parrot.evaluate.bootstrap import intervals, picture_weights, totals_by_picture
from parrot.evaluate.grading import read_rows
from parrot.evaluate.judge import relative, reviewed
from parrot.evaluate.mme import sums
from parrot.evaluate.predictions import read_rejected
from parrot.evaluate.prompts import as_asked
from parrot.evaluate.score_lines import COLUMNS, in_words, to_csv
from parrot.io.files import atomic_write

WHOLE = {"house": "all", "split": "all", "kind": "all"}
MEANS = ("hit", "unmatched", "other_language")


def score(settings: ScoreSettings, predictions: Path, before: Path | None, output: Path) -> None:
    """Write one run's rows of scores.csv (accuracies and shares in per cent) to `output`.

    `predictions` is the run's folder of prediction TSVs. `before`, where given, is that of its stage 1, scored under
    the text control as run ``align/{key}`` with the key read off the folder (``align/{key}/predictions`` or
    ``align/{key}``). A judge's reviews are kept in ``reviews`` beside `output`.
    ConfigError when a file is not what was predicted, and where a judge does not answer.
    """
    parts: list[tuple[str, Path, tuple[Control, ...]]] = [(settings.run, predictions, settings.controls)]
    if before is not None:
        folder = before.parent if before.name == "predictions" else before
        text: tuple[Control, ...] = tuple(control for control in settings.controls if control == "text")
        parts.append((f"align/{folder.name}", before, text))
    rows = [
        row
        for run, folder, controls in parts
        for benchmark in settings.benchmarks
        for control in controls
        if control in benchmark.controls
        for row in _score(settings, run, benchmark, folder, control, output.parent / "reviews")
    ]
    lines = ([in_words(row[column]) for column in COLUMNS] for row in rows)
    atomic_write(output, to_csv([COLUMNS, *lines]))


def _score(
    settings: ScoreSettings, run: str, benchmark: Benchmark, folder: Path, control: Control, reviews: Path
) -> Iterator[dict[str, object]]:
    conventions = as_asked(benchmark, settings)
    judge = settings.judge.name if settings.judge and benchmark.kind == "judged" else ""
    rejected = read_rejected(benchmark, folder, control)
    for scoring, subset in _scored(settings, benchmark, folder, control, reviews):
        yield {
            "run": run,
            "seed": settings.seed,
            "benchmark": benchmark.name,
            "scoring": scoring,
            "control": control,
            "judge": judge,
            **{name: getattr(conventions, name) for name in Conventions.model_fields},
            **subset,
            # A row that cannot be asked is of no house, split or kind.
            "rejected": rejected[subset["language"]] if WHOLE.items() <= subset.items() else "",
        }


def _scored(
    settings: ScoreSettings, benchmark: Benchmark, folder: Path, control: Control, reviews: Path
) -> Iterator[tuple[Scoring, dict[str, Any]]]:
    """Every scoring's subsets, beginning with the scoring that tables show."""
    drawn = settings.resamples, settings.seed
    if benchmark.kind == "judged":
        assert settings.judge is not None, "a run without a judge is refused"
        for subset in relative(reviewed(benchmark, folder, settings.judge, reviews), *drawn):
            yield "relative", subset
        return
    rows = read_rows(benchmark, folder, settings, control)
    for scoring in scorings(rows, benchmark.scoring):
        if scoring == "mme":
            found = sums(rows, units(rows, "pairs", benchmark.scoring), benchmark, *drawn)
        else:
            found = _accuracies(units(rows, scoring, benchmark.scoring), *drawn)
        for subset in found:
            yield scoring, subset


def _accuracies(groups: pd.DataFrame, resamples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Accuracy and counts of every subset of units as `parrot.evaluate.accuracy.units` gives them."""
    labels, members = _subsets(groups)
    counted = groups["counted"].to_numpy()
    scored, of_scored = groups[counted], members[counted]
    counts = of_scored.sum(axis=0)
    low, high = _intervals(scored, of_scored, resamples, seed)
    with np.errstate(invalid="ignore"):  # a subset none of whose units counts has no accuracy
        means = {name: 100 * (scored[name].to_numpy() @ of_scored) / counts for name in MEANS}
    incomplete = scored["incomplete"].to_numpy() @ of_scored
    for g, label in enumerate(labels):
        yield {
            **label,
            "accuracy": means["hit"][g],
            "low": 100 * low[g],
            "high": 100 * high[g],
            "questions": int(counts[g]),
            "incomplete": int(incomplete[g]),
            "uncounted": int(members[~counted, g].sum()),
            "unmatched": means["unmatched"][g],
            "other_language": means["other_language"][g],
        }


def _intervals(scored: pd.DataFrame, members: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals (0 to 1) of each subset's accuracy, NaN where it has no unit."""
    low, high = np.full((2, members.shape[1]), np.nan)
    some = members.any(axis=0)
    picture, names = pd.factorize(scored["picture"], sort=True)
    if some.any():
        low[some], high[some] = intervals(
            totals_by_picture(picture, len(names), members[:, some] * scored[["hit"]].to_numpy()),
            totals_by_picture(picture, len(names), members[:, some]),
            # The same draws for every control and every run at this seed, which can so be compared picture by picture.
            picture_weights(len(names), resamples, seed),
        )
    return low, high


def _subsets(groups: pd.DataFrame) -> tuple[list[dict[str, str]], np.ndarray]:
    """Labels (language, house, split, kind) of the subsets that hold units, and who belongs: (units, subsets), 0 or 1.

    A single split, or house without a name, is no subset of its own.
    """
    everyone = np.ones(len(groups), dtype=bool)
    languages = {name: (groups["language"] == name).to_numpy() for name in groups["language"].unique()}
    houses = {"all": everyone} | by_value(groups["house"])
    splits = by_value(groups["split"])
    splits = {"all": everyone} | (splits if len(splits) > 1 else {})
    labels, members = [], []
    for (language, a), (house, b), (split, c), (kind, d) in product(
        languages.items(), houses.items(), splits.items(), by_kind(groups).items()
    ):
        mask = a & b & c & d
        if mask.any():
            labels.append({"language": language, "house": house, "split": split, "kind": kind})
            members.append(mask)
    return labels, np.column_stack(members).astype(np.float64)
