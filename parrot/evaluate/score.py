"""`parrot score`: grades one run's predictions, once, to graded.csv, and sums the grades up in scores.csv.

Deterministic, and needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from parrot.config.benchmarks import KINDS, Benchmark, Control, prediction_file
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.config.stages import ScoreSettings
from parrot.evaluate.graded_csv import write_graded
from parrot.evaluate.judge import Ratings, review
from parrot.evaluate.kinds import MODULES, read_rows
from parrot.evaluate.metrics import Subset
from parrot.evaluate.predictions import read_rejected
from parrot.evaluate.prompts import settings_for
from parrot.evaluate.scores_csv import COLUMNS, NON_ENGLISH, in_words, read_lines
from parrot.io.csv_tables import to_csv
from parrot.io.files import atomic_write

ALL = {"image_source": "all", "split": "all", "kind": "all"}


def score(settings: ScoreSettings, predictions: Path, before: Path | None, output: Path) -> None:
    """Write one run's rows of scores.csv (accuracies and shares in per cent) to `output`, and graded.csv beside it.

    `predictions` is the run's folder of prediction TSVs. `before`, where given, is that of its stage 1, scored under
    the text control as run ``align/{key}`` with the key read off the folder (``align/{key}/predictions`` or
    ``align/{key}``). A judge's reviews are kept in ``reviews`` beside `output`.

    Raises:
        UserError: a file is not what was predicted, or a judge does not answer.
    """
    parts: list[tuple[str, Path, tuple[Control, ...]]] = [(settings.run, predictions, settings.controls)]
    if before is not None:
        folder = before.parent if before.name == "predictions" else before
        text: tuple[Control, ...] = tuple(control for control in settings.controls if control == "text")
        parts.append((f"align/{folder.name}", before, text))
    rate = partial(_rate, settings, output.parent / "reviews")
    graded, lines = [], []
    for run, folder, controls in parts:
        for benchmark in settings.benchmarks:
            for control in controls:
                if control in benchmark.controls:
                    rows = read_rows(benchmark, folder, settings, control, rate)
                    graded.append(rows.assign(run=run))
                    rejected = read_rejected(benchmark, folder, control)
                    for line in _lines(settings, run, benchmark, control, rows, rejected):
                        lines.append([in_words(line[column]) for column in COLUMNS])
    write_graded(graded, output.with_name("graded.csv"))
    atomic_write(output, to_csv([COLUMNS, *lines]))


def join(scores: Sequence[Path], output: Path) -> None:
    """Write the lines of `scores` to `output`, each once: runs that share a stage 1 all carry its lines.

    Raises:
        UserError: a file is no scores.csv.
    """
    lines = dict.fromkeys(tuple(line.values()) for path in scores for line in read_lines(path))
    atomic_write(output, to_csv([COLUMNS, *lines]))


def _rate(settings: ScoreSettings, reviews: Path, predictions: pd.DataFrame, file: str) -> list[Ratings | None]:
    assert settings.judge is not None, "a run without a judge is refused"
    return review(predictions, settings.judge, prediction_file(reviews, file, "none"))


def _lines(
    settings: ScoreSettings,
    run: str,
    benchmark: Benchmark,
    control: Control,
    rows: pd.DataFrame,
    rejected: Mapping[Language, int],
) -> Iterator[Subset]:
    """Lines of scores.csv of graded `rows`; `rejected` counts the rows of each language that were not predicted."""
    conventions = settings_for(benchmark, settings)
    left_out = {NON_ENGLISH: sum(count for language, count in rejected.items() if language != "en"), **rejected}
    for scoring, subset in MODULES[benchmark.kind].scores(rows, benchmark, settings.resamples, settings.seed):
        yield {
            "run": run,
            "seed": settings.seed,
            "benchmark": benchmark.name,
            "scoring": scoring,
            "control": control,
            "judge": settings.judge.name if settings.judge and not KINDS[benchmark.kind].matched else "",
            **{name: getattr(conventions, name) for name in Conventions.model_fields},
            **subset,
            # A row that cannot be predicted is of no image source, split or kind.
            "rejected": left_out[subset["language"]] if ALL.items() <= subset.items() else "",
        }
