"""Answers judged question by question, where scores do not suffice: languages pooled, and runs compared in pairs."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from parrot.config import ConfigError
from parrot.evaluate.accuracy import load_units
from parrot.evaluate.bootstrap import intervals, paired_difference, picture_weights, totals_by_picture
from parrot.report.scores import MISSING, Cell
from parrot.report.settings import ReportStage

picture_weights = lru_cache(maxsize=8)(picture_weights)


class Units:
    """The units (`parrot.evaluate.accuracy.units`) of every run and benchmark; read once, when first asked for."""

    def __init__(self, settings: ReportStage, results: Path):
        self._settings = settings
        self._results = results
        self._conventions = {run.name: run.conventions for run in settings.runs}
        self._benchmarks = {benchmark.name: benchmark for benchmark in settings.benchmarks}
        self.load = cache(self._load)

    def _load(self, run: str, benchmark: str) -> pd.DataFrame:
        folder = self._results / run / "predictions"
        return load_units(self._benchmarks[benchmark], folder, self._conventions[run])

    def non_english_interval(self, run: str, benchmark: str, house: str) -> tuple[float, float]:
        """95 % interval in per cent of the accuracy over all languages but English together."""
        units = self.load(run, benchmark)
        chosen = of_house(units, house) & (units["language"] != "en").to_numpy()
        picture, names = pd.factorize(units["picture"], sort=True)
        members = chosen[:, None].astype(np.float64)
        low, high = intervals(
            totals_by_picture(picture, len(names), members * units[["hit"]].to_numpy()),
            totals_by_picture(picture, len(names), members),
            picture_weights(len(names), self._settings.resamples, self._settings.seed),
        )
        return 100 * float(low[0]), 100 * float(high[0])

    def difference(
        self, run: str, other: str, benchmark: str, house: str, languages: tuple[str, ...]
    ) -> tuple[Cell, Cell]:
        """`run` minus `other` in points with its interval, and the minimum detectable effect.

        Missing where a run was not asked in these languages. Raises ConfigError when the two runs answered different
        questions.
        """
        sides = [self.load(name, benchmark) for name in (run, other)]
        first, second = (
            units[of_house(units, house) & units["language"].isin(languages).to_numpy()] for units in sides
        )
        if first.empty and second.empty:
            return MISSING, MISSING
        try:
            found = paired_difference(first, second, self._settings.resamples, self._settings.seed)
        except ValueError as error:
            raise ConfigError(f"{self._results}: {run} and {other}: {benchmark}: {error}") from None
        return Cell(found.points, found.low, found.high), Cell(found.detectable)


def of_house(units: pd.DataFrame, house: str) -> np.ndarray:
    """Which units show a picture of `house` ("all": any): (units,) of bool."""
    return np.full(len(units), True) if house == "all" else (units["house"] == house).to_numpy()
