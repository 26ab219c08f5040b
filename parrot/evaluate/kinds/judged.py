"""Free answers that a judge model rates beside a reference answer, as in LLaVA-Bench."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from parrot.config.benchmarks import KINDS, Benchmark, Scoring
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.evaluate.graded_csv import described
from parrot.evaluate.judge import REQUIRED as REQUIRED
from parrot.evaluate.judge import Rate, Ratings
from parrot.evaluate.metrics import Subset, non_english, relative
from parrot.evaluate.prompts import PromptLanguage, filled


def prompt(
    benchmark: Benchmark,
    row: Mapping[str, str],
    sentences: Mapping[Language, str],
    language: Language,
    prompt_language: PromptLanguage,
) -> str:
    """Word a row: the question alone, or the entry's template."""
    return filled(benchmark.template or KINDS["judged"].template, row, row["question"], "")


def grade(
    benchmark: Benchmark, predictions: pd.DataFrame, language: Language, conventions: Conventions, rate: Rate | None
) -> pd.DataFrame:
    """Have each prediction rated by `rate`."""
    assert rate is not None, "a run without a judge is refused"
    return rated(predictions, language, rate(predictions, benchmark.files[language]))


def scores(rows: pd.DataFrame, benchmark: Benchmark, resamples: int, seed: int) -> Iterator[tuple[Scoring, Subset]]:
    """Ratings over those of the references, by language and category."""
    found = list(relative(rows, resamples, seed))
    yield from (("relative", subset) for subset in (*found, *non_english(found)))


def rated(predictions: pd.DataFrame, language: Language, ratings: Sequence[Ratings | None]) -> pd.DataFrame:
    """Grade each prediction by a judge's ratings of it and of the reference answer, 1 to 10; None could not be read."""
    return described(predictions, language).assign(
        options=0,
        score=[rating.prediction if rating else np.nan for rating in ratings],
        reference_score=[rating.reference if rating else np.nan for rating in ratings],
        hit=np.nan,
        unmatched=[0.0 if rating else 1.0 for rating in ratings],
        other_language=0.0,
    )
