"""Questions with lettered options, of which a prediction names one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from parrot.config.benchmarks import KINDS, Benchmark, Scoring
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.evaluate import grading
from parrot.evaluate.circular import items, scorings
from parrot.evaluate.judge import Rate
from parrot.evaluate.metrics import Subset, accuracies
from parrot.evaluate.prompts import PromptLanguage, build_prompt, instructions, settings_for

REQUIRED = grading.REQUIRED


def prompt(
    benchmark: Benchmark,
    row: Mapping[str, str],
    sentences: Mapping[Language, str],
    language: Language,
    prompt_language: PromptLanguage,
) -> str:
    """Word a row as VLMEvalKit's Parrot wrapper does."""
    template = benchmark.template or KINDS["multiple_choice"].template
    return build_prompt(row, sentences, language, prompt_language, template)


def grade(
    benchmark: Benchmark, predictions: pd.DataFrame, language: Language, conventions: Conventions, rate: Rate | None
) -> pd.DataFrame:
    """Match each prediction with the options of its row."""
    own = settings_for(benchmark, conventions)
    return grading.grade(predictions, language, own, instructions(benchmark, own))


def scores(rows: pd.DataFrame, benchmark: Benchmark, resamples: int, seed: int) -> Iterator[tuple[Scoring, Subset]]:
    """Every scoring's subsets, beginning with the scoring that tables show."""
    for scoring in scorings(rows, benchmark.scoring):
        for subset in accuracies(items(rows, scoring, benchmark.scoring), resamples, seed):
            yield scoring, subset
