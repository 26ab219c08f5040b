"""Kinds of benchmarks: a module for each says how its rows are worded, graded and scored.

What a benchmark's entry and file must be like is a row of `parrot.config.benchmarks.KINDS`. A new kind is a row there,
a module here, and its name in `MODULES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pandas as pd

from parrot.config.benchmarks import Benchmark, Control, Kind, Scoring
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.evaluate.graded_csv import placed
from parrot.evaluate.judge import Rate
from parrot.evaluate.kinds import judged, multiple_choice, yes_no
from parrot.evaluate.metrics import Subset
from parrot.evaluate.predictions import read_predictions
from parrot.evaluate.prompts import PromptLanguage


class KindModule(Protocol):
    """What each module has."""

    @property
    def REQUIRED(self) -> tuple[str, ...]:
        """Columns that grading needs of a prediction file."""

    def prompt(
        self,
        benchmark: Benchmark,
        row: Mapping[str, str],
        sentences: Mapping[Language, str],
        language: Language,
        prompt_language: PromptLanguage,
    ) -> str:
        """Word a row of a benchmark's file in `language`; `sentences` as `parrot.evaluate.prompts.instructions`."""

    def grade(
        self,
        benchmark: Benchmark,
        predictions: pd.DataFrame,
        language: Language,
        conventions: Conventions,
        rate: Rate | None,
    ) -> pd.DataFrame:
        """Grade the rows of a prediction file: graded.csv's columns but where each was asked."""

    def scores(
        self, rows: pd.DataFrame, benchmark: Benchmark, resamples: int, seed: int
    ) -> Iterator[tuple[Scoring, Subset]]:
        """Sum graded rows up: lines of scores.csv by scoring, beginning with the one that tables show."""


MODULES: dict[Kind, KindModule] = {"multiple_choice": multiple_choice, "yes_no": yes_no, "judged": judged}


def word_row(
    benchmark: Benchmark,
    row: Mapping[str, str],
    sentences: Mapping[Language, str],
    language: Language,
    prompt_language: PromptLanguage,
) -> str:
    """Word a row of `benchmark` by its kind and template."""
    return MODULES[benchmark.kind].prompt(benchmark, row, sentences, language, prompt_language)


def read_rows(
    benchmark: Benchmark,
    folder: Path,
    conventions: Conventions,
    control: Control = "none",
    rate: Rate | None = None,
) -> pd.DataFrame:
    """Grade all languages' predictions of one benchmark in `folder`: the columns of graded.csv but the run.

    `rate` asks the judge, for kinds that have one.

    Raises:
        UserError: a file is not what was predicted, or lacks a column.
    """
    kind, tables = MODULES[benchmark.kind], []
    for language in benchmark.files:
        predictions = read_predictions(benchmark, language, folder, control, kind.REQUIRED)
        tables.append(placed(kind.grade(benchmark, predictions, language, conventions, rate), benchmark, control))
    return pd.concat(tables, ignore_index=True)
