"""The primary contrast: one comparison, declared before scores are read, whose p stands apart from all others.

Its questions are those of the report's headline too, and of the line that a target or `parrot compare` ends with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from parrot.config.catalog import Language
from parrot.constants import LANGUAGES
from parrot.evaluate.bootstrap import holm
from parrot.evaluate.scores_csv import UNBOUNDED, Scores
from parrot.report import comparisons, notes, tables
from parrot.report.comparisons import Comparison, Items
from parrot.report.grid import Grid
from parrot.report.render import interval, number, shown
from parrot.report.scores import Cell
from parrot.report.settings import ReportItem, ReportStage
from parrot.report.words import WORDS

MEASURES = (*comparisons.MEASURES, "questions", "images")
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Measure:
    """The questions that runs are compared on, those of `languages` together with equal weight.

    `what` are the questions in words, `where` the languages.
    """

    benchmark: str
    image_source: str
    kind: str
    languages: tuple[Language, ...]
    what: str
    where: str


@dataclass(frozen=True)
class Contrast:
    """One run minus another; `p` is adjusted for all the contrasts beside it, of which `claims` have one."""

    run: str
    other: str
    comparison: Comparison
    p: float
    claims: int

    @property
    def cell(self) -> Cell:
        """The difference with its interval."""
        found = self.comparison.difference
        return Cell(found.points, found.low, found.high)

    @property
    def points(self) -> str:
        """The difference with its interval and p in words: ``0.2 points (-3.1 to 3.4), p 0.90``."""
        p = "unknown" if self.p != self.p else comparisons.p_value(self.p)
        adjusted = " after Holm's correction" if self.claims > 1 else ""
        return f"{number(self.comparison.difference.points)} points ({interval(self.cell)}), p {p}{adjusted}"


def measure(settings: ReportStage, scores: Scores) -> Measure | None:
    """Return what the headline is about: the primary contrast's questions, else those of the first accuracy table.

    Of the emoji sets it is the first; None where no run was asked any of it.
    """
    items = [settings.items[settings.contrast]] if settings.contrast else []
    items += [item for item in settings.tables.values() if item.kind == "accuracy"]
    for item in items[:1]:
        for benchmark in item.benchmarks:
            asked = tables.languages(settings, [benchmark])
            if asked and tables.scoring(settings, benchmark) not in UNBOUNDED:
                return _measure(item, settings, scores, benchmark, asked)
    return None


def _measure(
    item: ReportItem, settings: ReportStage, scores: Scores, benchmark: str, asked: tuple[Language, ...]
) -> Measure:
    image_source = tables.image_sources(item, scores)[0]
    kind = item.questions if item.questions in scores.values("kind", [benchmark]) else "all"
    others = tuple(language for language in asked if language != "en")
    what = [settings.titles[benchmark]]
    what += [WORDS.get(kind, kind)] if kind != "all" else []
    what += [item.image_sources.get(image_source, image_source)] if image_source != "all" else []
    where = f"mean of the other {COUNTS.get(len(others), len(others))} languages"
    if len(others) < 2:
        where = f"in {LANGUAGES[(*others, 'en')[0]].name}"
    return Measure(benchmark, image_source, kind, others or asked, ", ".join(what), where)


def contrasts(settings: ReportStage, items: Items, on: Measure) -> list[Contrast]:
    """Compare the pairs of which both have predictions; p by Holm where a target has several."""
    item = settings.items[settings.contrast] if settings.contrast else None
    pairs = settings.compared(item) if item else settings.comparisons or ()
    found = [(pair, items.compare(*pair, on.benchmark, on.image_source, on.languages, on.kind)) for pair in pairs]
    both = [(pair, comparison) for pair, comparison in found if comparison is not None]
    p_values = holm([comparison.p for _, comparison in both])
    claims = sum(p == p for p in p_values)
    return [Contrast(*pair, comparison, p, claims) for (pair, comparison), p in zip(both, p_values, strict=True)]


def grid(item: ReportItem, settings: ReportStage, scores: Scores, items: Items) -> Grid:
    """Lay out the primary contrast, or a target's runs against their baselines; empty where nothing was predicted."""
    on = measure(settings, scores)
    found = contrasts(settings, items, on) if on else []
    rows = tuple(((on.image_source, f"{one.run} minus {one.other}"), _cells(one)) for one in found) if on else ()
    scoring = tables.scoring(settings, item.benchmarks[0])
    named = {on.benchmark: f"{on.what} ({scoring}); {on.where}"} if on else {}
    named |= {"p_holm": "p"} if len(found) < 2 else {}
    return Grid(
        title=item.title,
        note=" ".join(filter(None, (_note(settings, found), *notes.about(item, settings, scores)))),
        heads=("image_source", "comparison"),
        groups=((item.benchmarks[0], MEASURES),),
        rows=rows,
        words=tables.words(item, settings) | named,
        axes=("benchmark", "measure"),
        scorings={item.benchmarks[0]: scoring},
        conventions=({"kind": on.kind} if on else {}) | notes.conventions(item, settings),
    )


def _cells(one: Contrast) -> tuple[Cell, ...]:
    found = one.comparison.difference
    counts = (Cell(n, text=str(n)) for n in (found.questions, found.images))
    return (*comparisons.measured(one.comparison, one.p), *counts)


def _note(settings: ReportStage, found: list[Contrast]) -> str:
    if not found:
        return "No two of these runs that differ in more than their seed were asked these questions."
    seeds = [said for _, said in tables.several_seeds(settings)]
    apart = ""
    if settings.target is None:
        apart = " config/tables.yaml declares it as the primary one, so that its p is adjusted for no other comparison."
    return comparisons.note(tables.INTERVAL, found[0].claims, seeds) + apart


def headline(settings: ReportStage, scores: Scores, items: Items, output: Path | None = None) -> str:
    """Sum up in one line: each contrast's points, interval and p, and where in `output` table and page are.

    Without anything to compare, the runs' accuracies.
    """
    on = measure(settings, scores)
    if on is None:
        said = f"{settings.target or 'report'}: no accuracies"
    elif found := contrasts(settings, items, on):
        said = f"{found[0].run} minus {found[0].other}, {on.what}, {on.where}: {found[0].points}"
        said += "".join(f"; {one.run} minus {one.other}: {one.points}" for one in found[1:])
    else:
        said = f"{on.what}, {on.where}: " + "; ".join(_accuracies(settings, items, on))
    if output is not None:
        table = settings.contrast or next(iter(settings.tables), "")
        said += f"; table: {output / 'tables' / table}.md, page: {output / 'report.html'}"
    # Terminals and logs that are not UTF-8 have no true minus sign.
    return said.replace("\N{MINUS SIGN}", "-")


def _accuracies(settings: ReportStage, items: Items, on: Measure) -> list[str]:
    asked = {run.name for run in settings.runs if on.benchmark in run.benchmarks}
    names = [name for name, *_ in map(dict.values, settings.by_recipe.values()) if name in asked]
    found = {name: items.accuracy(name, on.benchmark, on.image_source, on.languages, on.kind) for name in names}
    return [f"{name} {shown(cell)} % ({interval(cell)})" for name, cell in found.items()]
