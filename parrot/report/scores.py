"""Read scores.csv, the long form of every accuracy, and look cells up in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.errors import ConfigError
from parrot.evaluate.score_lines import IDENTITY, NUMBERS, number, read_lines, remade
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


@dataclass(frozen=True)
class Score:
    """One line of scores.csv; per cent, except the counts."""

    run: str
    seed: int
    benchmark: str
    language: str
    house: str
    split: str
    kind: str
    scoring: str
    control: str
    judge: str
    accuracy: float | None
    low: float | None
    high: float | None
    questions: float | None
    incomplete: float | None
    uncounted: float | None
    rejected: float | None
    unmatched: float | None
    other_language: float | None

    @property
    def cell(self) -> Cell:
        return Cell(self.accuracy, self.low, self.high)


class Scores:
    """Scores, found by what they measure."""

    def __init__(self, scores: Iterable[Score]):
        self._scores = {tuple(getattr(s, name) for name in IDENTITY): s for s in scores}

    def __iter__(self) -> Iterator[Score]:
        return iter(self._scores.values())

    def find(
        self,
        run: str,
        benchmark: str,
        language: str,
        *,
        scoring: str,
        house: str = "all",
        split: str = "all",
        kind: str = "all",
        control: str = "none",
    ) -> Score | None:
        """The score, or None where scores.csv has no such line."""
        return self._scores.get((run, benchmark, language, house, split, kind, scoring, control))

    def values(self, column: str, benchmarks: Sequence[str]) -> list[str]:
        """The values of `column` that occur for `benchmarks`, in the order of the file."""
        found = (getattr(s, column) for s in self._scores.values() if s.benchmark in benchmarks)
        return list(dict.fromkeys(found))


def read_scores(paths: Sequence[Path]) -> Scores:
    """Read scores.csv files; ConfigError for one that is none (see `read_lines`), and where two say two things.

    Runs that share a stage 1 all carry its lines.
    """
    found: dict[tuple[str, ...], tuple[Path, Score]] = {}
    for path in paths:
        for line in read_lines(path):
            identity, score = tuple(line[name] for name in IDENTITY), _score(line)
            other, same = found.setdefault(identity, (path, score))
            if same != score:
                raise ConfigError(f"{path}: the cell {', '.join(identity)} is another one in {other}")
    return Scores(score for _, score in found.values())


def check_asked(scores: Scores, settings: ReportStage, results: Path) -> None:
    """ConfigError unless there is an accuracy of every run on all benchmarks and languages that it was asked."""
    for run in settings.runs:
        for benchmark in settings.benchmarks:
            for language in benchmark.files if benchmark.name in run.benchmarks else ():
                found = scores.find(run.name, benchmark.name, language, scoring=benchmark.scoring)
                if found is None or found.seed != run.seed:
                    expected = f"{run.name} at seed {run.seed} on {benchmark.name} in {language}"
                    path = results / run.name / "scores.csv"
                    raise ConfigError(f"{path}: expected the score of {expected}, found none; {remade(path)}")


def _score(line: dict[str, str]) -> Score:
    texts: dict[str, Any] = {name: line[name] for name in (*IDENTITY, "judge")}
    numbers = {name: number(line[name], name) for name in NUMBERS}
    return Score(**texts | numbers, seed=int(line["seed"]))
