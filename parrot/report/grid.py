"""Cells, numbers with their intervals, and a grid of them: a table before it is written, also as a long CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parrot.errors import UserError
from parrot.evaluate.scores_csv import Score, Scores
from parrot.io import csv_tables
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
    """Check that there is an accuracy of every run on all its benchmarks and languages.

    Raises:
        UserError: one is missing.
    """
    for run in settings.runs:
        for benchmark in settings.benchmarks:
            for language in benchmark.files if benchmark.name in run.benchmarks else ():
                found = scores.find(run.name, benchmark.name, language, scoring=benchmark.scoring)
                if found is None or found.seed != run.seed:
                    expected = f"{run.name} at seed {run.seed} on {benchmark.name} in {language}"
                    path = results / run.name / "scores.csv"
                    raise UserError(f"{path}: expected the score of {expected}, found none; {remade(path)}")


Rows = list[tuple[tuple[str, ...], tuple[Cell, ...]]]


@dataclass(frozen=True)
class Grid:
    """Rows of cells under grouped columns.

    Attributes:
        title: what the table shows, in a few words.
        note: how to read it: units, scoring, what the interval is over.
        heads: names of the columns that label a row; the first one divides the table into sections.
        groups: column groups, each a name (a benchmark) and its columns (languages).
        rows: labels, one for each of `heads`, and cells, one for each column of every group in order.
        words: names as the reader sees them, by the names of the data; names not in it are shown as they are.
        axes: what a group and a column are, as the long CSV calls them.
        scorings: how the numbers of each group are counted, where they are accuracies.
        conventions: the conventions of the table's numbers by name.
    """

    title: str
    note: str
    heads: tuple[str, ...]
    groups: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]
    words: Mapping[str, str] = field(default_factory=dict)
    axes: tuple[str, str] = ("benchmark", "language")
    scorings: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width = len(self.columns)
        assert all(len(labels) == len(self.heads) and len(cells) == width for labels, cells in self.rows)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Every column as (group, column)."""
        return [(group, column) for group, columns in self.groups for column in columns]

    def word(self, name: str) -> str:
        """Return `name` as the reader sees it."""
        return self.words.get(name, name)


def to_csv(grid: Grid) -> str:
    """Return the grid in long form, one number per line, by the data's names; a missing number is an empty field."""
    scoring = ["scoring"] if grid.scorings else []
    lines = [[*grid.heads, *grid.axes, "value", "low", "high", *scoring, *grid.conventions]]
    for labels, cells in grid.rows:
        for (group, column), cell in zip(grid.columns, cells, strict=True):
            form = ".6g" if cell.text else ".4f"
            numbers = ["" if n is None else f"{n:{form}}" for n in (cell.value, cell.low, cell.high)]
            counted = [grid.scorings[group]] if grid.scorings else []
            lines.append([*labels, group, column, *numbers, *counted, *grid.conventions.values()])
    return csv_tables.to_csv(lines)
