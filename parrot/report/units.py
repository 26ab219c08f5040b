"""Answers graded question by question, where scores do not suffice: languages or seeds pooled, and runs compared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from parrot.errors import ConfigError
from parrot.evaluate.accuracy import by_kind, load_units
from parrot.evaluate.bootstrap import (
    LEVEL,
    BySeed,
    Estimate,
    accuracy,
    means_over_languages,
    paired_difference,
    picture_weights,
)
from parrot.evaluate.significance import exact_mcnemar, independent
from parrot.report.scores import MISSING, Cell
from parrot.report.settings import ReportStage


@dataclass(frozen=True)
class Comparison:
    """One run minus another in points, and p of no difference; `exact` where that is McNemar's."""

    difference: Estimate
    p: float
    exact: bool


class Units:
    """The units (`parrot.evaluate.accuracy.units`) of every run and benchmark; read once, when first asked for."""

    def __init__(self, settings: ReportStage, results: Path):
        self._settings = settings
        self._results = results
        self._runs = {run.name: run for run in settings.runs}
        self._benchmarks = {benchmark.name: benchmark for benchmark in settings.benchmarks}
        self.load = cache(self._load)

    def _load(self, run: str, benchmark: str) -> pd.DataFrame:
        folder = self._results / run / "predictions"
        return load_units(self._benchmarks[benchmark], folder, self._runs[run].conventions)

    def non_english_interval(self, run: str, benchmark: str, house: str, kind: str = "all") -> tuple[float, float]:
        """95 % interval in per cent of the mean accuracy of all languages but English."""
        units = self.load(run, benchmark)
        chosen = of_house(units, house) & of_kind(units, kind) & (units["language"] != "en").to_numpy()
        picture, names = pd.factorize(units["picture"], sort=True)
        means = means_over_languages(
            units["language"].to_numpy()[chosen],
            picture[chosen],
            units[["hit"]].to_numpy()[chosen],
            picture_weights(len(names), self._settings.resamples, self._settings.seed),
        )
        low, high = 100 * np.nanpercentile(means, LEVEL)
        return float(low), float(high)

    def accuracy(self, run: str, benchmark: str, house: str, languages: tuple[str, ...], kind: str = "all") -> Cell:
        """Accuracy of `run` over all the seeds that it is reported at, pictures and seeds resampled.

        Missing where it was not asked in these languages. Raises ConfigError when not all answered the same questions.
        """
        asked = self._by_seed(run, benchmark, house, languages, kind)
        if all(units.empty for units in asked.values()):
            return MISSING
        try:
            found = accuracy(asked, self._settings.resamples, self._settings.seed)
        except ValueError as error:
            raise ConfigError(f"{self._results}: {run}: {benchmark}: {error}") from None
        return Cell(found.points, found.low, found.high)

    def compare(
        self, run: str, other: str, benchmark: str, house: str, languages: tuple[str, ...], kind: str = "all"
    ) -> Comparison | None:
        """`run` minus `other`, each over all the seeds that it is reported at.

        None where one was not asked the benchmark, or neither in these languages. Raises ConfigError when they answered
        different questions.
        """
        if not all(benchmark in self._runs[name].benchmarks for name in (run, other)):
            return None
        first, second = (self._by_seed(name, benchmark, house, languages, kind) for name in (run, other))
        if all(units.empty for units in (*first.values(), *second.values())):
            return None
        try:
            found = paired_difference(first, second, self._settings.resamples, self._settings.seed)
        except ValueError as error:
            raise ConfigError(f"{self._results}: {run} and {other}: {benchmark}: {error}") from None
        (a, *more), (b, *others) = first.values(), second.values()
        if more or others or not independent(a):
            return Comparison(found, found.p, exact=False)
        return Comparison(found, exact_mcnemar(a, b), exact=True)

    def _by_seed(self, run: str, benchmark: str, house: str, languages: tuple[str, ...], kind: str) -> BySeed:
        by_seed = self._settings.by_recipe[self._runs[run].recipe_key]
        units = {seed: self.load(name, benchmark) for seed, name in by_seed.items()}
        return {
            seed: table[of_house(table, house) & of_kind(table, kind) & table["language"].isin(languages).to_numpy()]
            for seed, table in units.items()
        }


def of_house(units: pd.DataFrame, house: str) -> np.ndarray:
    """Which units show a picture of `house` ("all": any): (units,) of bool."""
    return np.full(len(units), True) if house == "all" else (units["house"] == house).to_numpy()


def of_kind(units: pd.DataFrame, kind: str) -> np.ndarray:
    """Which units are of this kind of question, as scores.csv names kinds ("all": any): (units,) of bool."""
    everyone = np.full(len(units), True)
    return everyone if kind == "all" else by_kind(units).get(kind, ~everyone)
