"""The primary contrast: one comparison, declared before scores are read, whose p stands apart from all others.

Its questions are those of the page's title and headline, and of the line that a target or `parrot compare` ends with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from parrot.config.catalog import Language
from parrot.constants import LANGUAGES
from parrot.evaluate.bootstrap import holm
from parrot.evaluate.scores_csv import UNBOUNDED, Scores, read_scores
from parrot.report import comparisons, labels, tables
from parrot.report.comparisons import Comparison, Items
from parrot.report.grid import Cell, Grid, check_complete
from parrot.report.labels import WORDS
from parrot.report.render import interval, number, shown, to_text
from parrot.report.settings import ReportedRun, ReportItem, ReportStage

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

    Of the emoji sets it is the first; None where no run was evaluated on any of it.
    """
    items = [settings.items[settings.contrast]] if settings.contrast else []
    items += [item for item in settings.tables.values() if item.kind == "accuracy"]
    for item in items[:1]:
        for benchmark in item.benchmarks:
            languages = tables.languages(settings, [benchmark])
            if languages and tables.scoring(settings, benchmark) not in UNBOUNDED:
                return _measure(item, settings, scores, benchmark, languages)
    return None


def _measure(
    item: ReportItem, settings: ReportStage, scores: Scores, benchmark: str, languages: tuple[Language, ...]
) -> Measure:
    image_source = tables.image_sources(item, scores)[0]
    kind = item.questions if item.questions in scores.values("kind", [benchmark]) else "all"
    others = tuple(language for language in languages if language != "en")
    what = [settings.titles[benchmark]]
    what += [WORDS.get(kind, kind)] if kind != "all" else []
    what += [item.image_sources.get(image_source, image_source)] if image_source != "all" else []
    where = f"mean of the other {COUNTS.get(len(others), len(others))} languages"
    if len(others) < 2:
        where = f"in {LANGUAGES[(*others, 'en')[0]].name}"
    return Measure(benchmark, image_source, kind, others or languages, ", ".join(what), where)


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
        note=" ".join(filter(None, (_note(settings, found), *labels.about(item, settings, scores)))),
        heads=("image_source", "comparison"),
        groups=((item.benchmarks[0], MEASURES),),
        rows=rows,
        words=tables.words(item, settings) | named,
        axes=("benchmark", "measure"),
        scorings={item.benchmarks[0]: scoring},
        conventions=({"kind": on.kind} if on else {}) | labels.conventions(item, settings),
    )


def _cells(one: Contrast) -> tuple[Cell, ...]:
    found = one.comparison.difference
    counts = (Cell(n, text=str(n)) for n in (found.questions, found.images))
    return (*comparisons.measured(one.comparison, one.p), *counts)


def _note(settings: ReportStage, found: list[Contrast]) -> str:
    if not found:
        return "No two of these runs that differ in more than their seed have predictions for these questions."
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
    evaluated = {run.name for run in settings.runs if on.benchmark in run.benchmarks}
    names = [name for name, *_ in map(dict.values, settings.by_recipe.values()) if name in evaluated]
    found = {name: items.accuracy(name, on.benchmark, on.image_source, on.languages, on.kind) for name in names}
    return [f"{name} {shown(cell)} % ({interval(cell)})" for name, cell in found.items()]


def question(settings: ReportStage) -> str:
    """Return the page's title: the question of the config's report, or what a target's report compares."""
    if settings.target is None:
        return "Does tuning in six languages teach a model to see in six languages?"
    baselines = dict.fromkeys(other for _, other in settings.comparisons or ())
    return f"{settings.target} against {', '.join(baselines)}" if baselines else f"{settings.target} by itself"


def answer(settings: ReportStage, items: Items, on: Measure) -> str:
    """Answer the title, with intervals, and say how far one seed carries it; "" where nothing was compared."""
    sentences = [] if settings.target else _by_languages(settings, items, on)
    found = contrasts(settings, items, on)
    if found:
        differences = "; ".join(f"{one.run} minus {one.other} {one.points}" for one in found)
        beginning = "What the experts add" if sentences else f"On {on.what}, {on.where}"
        sentences.append(f"{beginning}: {differences}{_verdict(settings, found)}.")
    return " ".join(sentences)


def by_languages(settings: ReportStage) -> tuple[str, str] | None:
    """Return the run tuned in many languages and the one tuned in English alone whose models are otherwise alike."""
    pairs = (
        (run.name, english.name)
        for english in settings.runs
        for run in settings.runs
        if english.languages == ("en",) and len(run.languages) > 1 and _alike(run, english)
    )
    return next(pairs, None)


def _by_languages(settings: ReportStage, items: Items, on: Measure) -> list[str]:
    pair = by_languages(settings)
    compared = items.compare(*pair, on.benchmark, on.image_source, on.languages, on.kind) if pair else None
    if pair is None or compared is None:
        return []
    found = compared.difference
    many, english = (items.accuracy(name, on.benchmark, on.image_source, on.languages, on.kind) for name in pair)
    languages = next(len(run.languages) for run in settings.runs if run.name == pair[0])
    verdict = "Yes" if found.low > 0 else "No" if found.high < 0 else "These runs do not tell"
    return [
        f"{verdict}: on {on.what}, {on.where}, {pair[0]}, tuned in {languages} languages, is right in "
        f"{shown(many)} % and {pair[1]}, tuned in English alone, in {shown(english)} %, a difference of "
        f"{number(found.points)} points ({interval(Cell(found.points, found.low, found.high))})."
    ]


def _alike(run: ReportedRun, other: ReportedRun) -> bool:
    fields = ("num_experts", "language_model", "conventions", "pretrained")
    return all(getattr(run, name) == getattr(other, name) for name in fields)


def _verdict(settings: ReportStage, found: list[Contrast]) -> str:
    seeds = {run.name: len(settings.by_recipe[run.recipe_key]) for run in settings.runs}
    several = all(seeds[name] > 1 for one in found for name in (one.run, one.other))
    return "" if several else "; one seed, no verdict"


def side_by_side(settings: ReportStage, results: Path) -> str:
    """Return the tables of `settings` as text, the headline last.

    Raises:
        UserError: malformed scores or grades.
    """
    scores, items = read_scores([results / run.name / "scores.csv" for run in settings.runs]), Items(settings, results)
    check_complete(scores, settings, results)
    parts = []
    for item in settings.tables.values():
        if item.kind == "contrast":
            continue
        grid = tables.grid(item, settings, scores, items)
        grid = replace(grid, rows=tuple(row for row in grid.rows if row[0][-1] != "detectable"))
        parts += [f"{grid.title}. {grid.note}", to_text(grid)]
    return "\n\n".join(filter(None, [*parts, headline(settings, scores, items)]))
