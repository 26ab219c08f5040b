"""A number as tables and figures show it, and whether there is a score of all that was asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parrot.errors import UserError
from parrot.evaluate.scores_csv import Score, Scores
from parrot.io.csv_tables import remade
from parrot.report.settings import ReportStage


@dataclass(frozen=True)
class Cell:
    """A number with its 95 % interval; None where it is missing.

    `text` is the number as a reader sees it, where one decimal would not do.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    text: str = ""


MISSING = Cell(None)


def accuracy_cell(score: Score | None) -> Cell:
    """Show a score's accuracy with its interval."""
    return MISSING if score is None else Cell(score.accuracy, score.low, score.high)


def check_complete(scores: Scores, settings: ReportStage, results: Path) -> None:
    """UserError unless there is an accuracy of every run on all benchmarks and languages that it was asked."""
    for run in settings.runs:
        for benchmark in settings.benchmarks:
            for language in benchmark.files if benchmark.name in run.benchmarks else ():
                found = scores.find(run.name, benchmark.name, language, scoring=benchmark.scoring)
                if found is None or found.seed != run.seed:
                    expected = f"{run.name} at seed {run.seed} on {benchmark.name} in {language}"
                    path = results / run.name / "scores.csv"
                    raise UserError(f"{path}: expected the score of {expected}, found none; {remade(path)}")
