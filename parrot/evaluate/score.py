"""`parrot score`: one run's predictions to its rows of scores.csv. Deterministic, and needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from parrot.config import Benchmark, Control
from parrot.evaluate.accuracy import load_units
from parrot.evaluate.bootstrap import intervals, picture_weights, totals_by_picture
from parrot.files import atomic_write
from parrot.runs import ScoreSettings

COLUMNS = (
    "run", "seed", "benchmark", "language", "house", "kind", "scoring", "matcher", "prompt_language", "control",
    "accuracy", "low", "high", "questions", "unmatched", "other_language",
)  # fmt: skip
DECIMALS = 4


def score(
    settings: ScoreSettings, predictions: Path, before: Path | None, output: Path, before_name: str | None = None
) -> None:
    """Write one run's rows of scores.csv (accuracies and shares in per cent) to `output`.

    `predictions` is the run's folder of prediction TSVs. `before`, where given, is that of its stage 1, scored under
    the text control as run `before_name`, by default ``align/{key}`` with the key read off the folder
    (``align/{key}/predictions`` or ``align/{key}``). ConfigError when a prediction file is missing or malformed.
    """
    parts: list[tuple[str, Path, tuple[Control, ...]]] = [(settings.run, predictions, settings.controls)]
    if before is not None:
        folder = before.parent if before.name == "predictions" else before
        text: tuple[Control, ...] = tuple(control for control in settings.controls if control == "text")
        parts.append((before_name or f"align/{folder.name}", before, text))
    rows = [
        row
        for run, folder, controls in parts
        for benchmark in settings.benchmarks
        for control in controls
        if control in benchmark.controls
        for row in _score(settings, run, benchmark, folder, control)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    atomic_write(output, table.to_csv(index=False, float_format=f"%.{DECIMALS}f", lineterminator="\n"))


def _score(
    settings: ScoreSettings, run: str, benchmark: Benchmark, folder: Path, control: Control
) -> Iterator[dict[str, object]]:
    units = load_units(benchmark, folder, control, settings.matcher)
    labels, members = _subsets(units)
    counts = members.sum(axis=0)
    picture, names = pd.factorize(units["picture"], sort=True)
    hit = units["hit"].to_numpy()[:, None]
    low, high = intervals(
        totals_by_picture(picture, len(names), members * hit),
        totals_by_picture(picture, len(names), members),
        # The same draws for every run and control, whose scores can so be compared picture by picture.
        picture_weights(len(names), settings.resamples, settings.seed),
    )
    means = {name: units[name].to_numpy() @ members / counts for name in ("hit", "unmatched", "other_language")}
    for g, (language, house, kind) in enumerate(labels):
        yield {
            "run": run,
            "seed": settings.seed,
            "benchmark": benchmark.name,
            "language": language,
            "house": house,
            "kind": kind,
            "scoring": benchmark.scoring,
            "matcher": settings.matcher,
            "prompt_language": settings.prompt_language,
            "control": control,
            "accuracy": 100 * means["hit"][g],
            "low": 100 * low[g],
            "high": 100 * high[g],
            "questions": int(counts[g]),
            "unmatched": 100 * means["unmatched"][g],
            "other_language": 100 * means["other_language"][g],
        }


def _subsets(units: pd.DataFrame) -> tuple[list[tuple[str, str, str]], np.ndarray]:
    """Labels (language, house, kind) of the subsets that hold questions, and who belongs: (units, subsets), 0 or 1."""
    everyone = np.ones(len(units), dtype=bool)
    languages = {name: (units["language"] == name).to_numpy() for name in units["language"].unique()}
    houses = {"all": everyone} | _by_value(units["house"])
    kinds = {
        "all": everyone,
        "four_option": (units["options"] == 4).to_numpy(),
        "easy": (units["difficulty"] == "easy").to_numpy(),
        "hard": (units["difficulty"] == "hard").to_numpy(),
        "seen_in_language": (units["unseen_in_language"] == "0").to_numpy(),
        "unseen_in_language": (units["unseen_in_language"] == "1").to_numpy(),
    } | _by_value(units["category"])
    labels, members = [], []
    for language, in_language in languages.items():
        for house, in_house in houses.items():
            for kind, of_kind in kinds.items():
                mask = in_language & in_house & of_kind
                if mask.any():
                    labels.append((language, house, kind))
                    members.append(mask)
    return labels, np.column_stack(members).astype(np.float64)


def _by_value(column: pd.Series) -> dict[str, np.ndarray]:
    return {value: (column == value).to_numpy() for value in sorted(set(column) - {""})}
