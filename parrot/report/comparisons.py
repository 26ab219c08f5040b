"""Runs compared item by item, where scores do not suffice: seeds pooled, differences, and p adjusted for all claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from parrot.errors import UserError
from parrot.evaluate.bootstrap import (
    BySeed,
    Estimate,
    accuracy,
    exact_mcnemar,
    holm,
    independent,
    paired_difference,
)
from parrot.evaluate.circular import items
from parrot.evaluate.graded_csv import read_graded, select
from parrot.evaluate.metrics import by_kind
from parrot.io.csv_tables import remade
from parrot.report.grid import MISSING, Cell, Rows
from parrot.report.settings import ReportStage

MEASURES = ("difference", "detectable", "p_holm")
EXACT = "†"


@dataclass(frozen=True)
class Comparison:
    """One run minus another in points, and p of no difference; `exact` where that is McNemar's."""

    difference: Estimate
    p: float
    exact: bool


class Items:
    """The counted items (`parrot.evaluate.circular.items`) of every run and benchmark; read once, when first needed."""

    def __init__(self, settings: ReportStage, results: Path):
        self._settings = settings
        self._results = results
        self._runs = {run.name: run for run in settings.runs}
        self._benchmarks = {benchmark.name: benchmark for benchmark in settings.benchmarks}
        self.load = cache(self._load)
        self.graded = cache(lambda run: read_graded(self.path(run), run))

    def path(self, run: str) -> Path:
        """Where the graded rows of a run lie."""
        return self._results / run / "graded.csv"

    def _load(self, run: str, benchmark: str) -> pd.DataFrame:
        graded, scoring = self.graded(run), self._benchmarks[benchmark].scoring
        rows = select(graded, run=run, benchmark=benchmark, control="none")
        for language in self._benchmarks[benchmark].files:
            if not (rows["language"] == language).any():
                expected = f"expected rows of {benchmark} in {language}, found none"
                raise UserError(f"{self.path(run)}: {expected}; {remade(self.path(run))}")
        found = items(rows, scoring, scoring)
        return found[found["counted"]].reset_index(drop=True)

    def accuracy(
        self, run: str, benchmark: str, image_source: str, languages: tuple[str, ...], kind: str = "all"
    ) -> Cell:
        """Accuracy of `run` over all the seeds that it is reported at, images and seeds resampled.

        Missing where it has no predictions in these languages.

        Raises:
            UserError: questions differ.
        """
        by_seed = self._by_seed(run, benchmark, image_source, languages, kind)
        if all(table.empty for table in by_seed.values()):
            return MISSING
        try:
            found = accuracy(by_seed, self._settings.resamples, self._settings.seed)
        except ValueError as error:
            raise UserError(f"{self._results}: {run}: {benchmark}: {error}") from None
        return Cell(found.points, found.low, found.high)

    def compare(
        self, run: str, other: str, benchmark: str, image_source: str, languages: tuple[str, ...], kind: str = "all"
    ) -> Comparison | None:
        """`run` minus `other`, each over all the seeds that it is reported at.

        None where one lacks the benchmark, or both these languages.

        Raises:
            UserError: they answered different questions.
        """
        if not all(benchmark in self._runs[name].benchmarks for name in (run, other)):
            return None
        first, second = (self._by_seed(name, benchmark, image_source, languages, kind) for name in (run, other))
        if all(table.empty for table in (*first.values(), *second.values())):
            return None
        try:
            found = paired_difference(first, second, self._settings.resamples, self._settings.seed)
        except ValueError as error:
            raise UserError(f"{self._results}: {run} and {other}: {benchmark}: {error}") from None
        (a, *more), (b, *others) = first.values(), second.values()
        if more or others or not independent(a):
            return Comparison(found, found.p, exact=False)
        return Comparison(found, exact_mcnemar(a, b), exact=True)

    def _by_seed(self, run: str, benchmark: str, image_source: str, languages: tuple[str, ...], kind: str) -> BySeed:
        by_seed = self._settings.by_recipe[self._runs[run].recipe_key]
        items = {seed: self.load(name, benchmark) for seed, name in by_seed.items()}
        return {
            seed: table[
                of_image_source(table, image_source)
                & of_kind(table, kind)
                & table["language"].isin(languages).to_numpy()
            ]
            for seed, table in items.items()
        }


def of_image_source(items: pd.DataFrame, image_source: str) -> np.ndarray:
    """Tell which items show an image of the source `image_source` ("all": any): (items,) of bool."""
    return np.full(len(items), True) if image_source == "all" else (items["image_source"] == image_source).to_numpy()


def of_kind(items: pd.DataFrame, kind: str) -> np.ndarray:
    """Tell which items are of this kind of question, as scores.csv names kinds ("all": any): (items,) of bool."""
    everyone = np.full(len(items), True)
    return everyone if kind == "all" else by_kind(items).get(kind, ~everyone)


def differences(
    pairs: Sequence[tuple[str, str]],
    image_sources: Sequence[str],
    columns: Sequence[tuple[str, tuple[str, ...]]],
    items: Items,
) -> tuple[Rows, int]:
    """Three rows, as in `MEASURES`, for each image source and each of `pairs` of runs; and how many claims have a p.

    `columns` are benchmarks with the languages that a column pools. Every cell is a claim of its own.
    """
    compared = {
        (image_source, f"{run} minus {other}"): [
            items.compare(run, other, benchmark, image_source, languages) for benchmark, languages in columns
        ]
        for image_source in image_sources
        for run, other in pairs
    }
    claims = [comparison for found in compared.values() for comparison in found if comparison is not None]
    p_values = holm([claim.p for claim in claims])
    adjusted = iter(p_values)
    table: Rows = []
    for (image_source, pair), found in compared.items():
        cells = [measured(comparison, next(adjusted)) if comparison else (MISSING,) * 3 for comparison in found]
        table += [((image_source, pair, name), tuple(each[i] for each in cells)) for i, name in enumerate(MEASURES)]
    return table, sum(p == p for p in p_values)


def measured(comparison: Comparison, p: float) -> tuple[Cell, Cell, Cell]:
    """Cells as in `MEASURES`, with the adjusted `p`."""
    found = comparison.difference
    mark = EXACT if comparison.exact else ""
    return (
        Cell(found.points, found.low, found.high),
        Cell(found.detectable),
        # Not a number where no resample differs from another: the bootstrap cannot say.
        MISSING if p != p else Cell(p, text=p_value(p) + mark),
    )


def p_value(p: float) -> str:
    """Return p as tables show it."""
    return "under 0.001" if p < 0.001 else f"{p:.3f}"


def note(interval: str, claims: int, several_seeds: Sequence[str], apart: str = "") -> str:
    """How to read the table; `several_seeds` names runs with their seeds, `apart` what is not among its claims."""
    seeds = "Runs at one seed say nothing about other seeds."
    if several_seeds:
        means = f"Means over seeds, which are resampled too: {'; '.join(several_seeds)}."
        seeds = f"{means} {seeds}"
    adjusted = f"; adjusted by Holm for the {claims} comparisons of this table{apart}" if claims > 1 else ""
    return (
        f"Points of accuracy; {interval}, both runs on the same images. The minimum detectable effect is the true "
        "difference that so many images, and seeds, would show in four cases of five, at 5 % for one comparison. "
        f"p is of no difference: by McNemar's exact test where marked {EXACT} (one language, one question per image), "
        f"else by the bootstrap's standard error{adjusted}. {seeds}"
    )
