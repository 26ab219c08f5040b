"""The report's tables as grids: which rows they have, and where each cell comes from, published values included."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import get_args

from parrot.config.benchmarks import Control
from parrot.config.catalog import Language
from parrot.constants import LANGUAGES
from parrot.data.tsv import L2
from parrot.errors import UserError
from parrot.evaluate.scores_csv import NON_ENGLISH, UNBOUNDED, Scores
from parrot.io.files import read_text
from parrot.report import comparisons, labels
from parrot.report.comparisons import Items
from parrot.report.grid import MISSING, Cell, Grid, Rows, accuracy_cell
from parrot.report.labels import WORDS
from parrot.report.settings import Compare, PublishedSystem, ReportItem, ReportStage

# The order of a reader's questions: what they ask, how hard, and whether the concept was ever shown in the language.
KINDS = (
    "naming", "fine_naming", "category", "colour", "counting", "position", "four_option", "same_different", "yes_no",
    "easy", "hard", "seen_in_language", "unseen_in_language",
)  # fmt: skip

METRIC = "accuracy (%)"
COLUMNS = ("system", "llm", "benchmark", "language", "metric", "value", "source")
PAPER_SCALE = "paper"
INTERVAL = "below it the 95 % interval over images"

Lookup = Callable[[str, str], Cell]
Built = tuple[Rows, tuple[str, ...], str]


def grid(item: ReportItem, settings: ReportStage, scores: Scores, items: Items) -> Grid:
    """Lay out a table: its rows by kind, and its columns each benchmark's languages with their non-English mean."""
    builders = {"accuracy": _accuracy, "controls": _controls, "kinds": _kinds, "differences": _differences}
    rows, heads, note = builders[item.kind](item, settings, scores, items)
    return Grid(
        title=item.title,
        note=" ".join(filter(None, (note, *labels.about(item, settings, scores)))),
        heads=heads,
        groups=groups(item, settings),
        rows=tuple(rows),
        words=words(item, settings),
        scorings={b.name: b.scoring for b in settings.benchmarks if b.name in item.benchmarks},
        conventions=labels.conventions(item, settings),
    )


def image_sources(item: ReportItem, scores: Scores) -> list[str]:
    """Return the image sources to report separately, the item's own order first; ["all"] where there is one."""
    found = [image_source for image_source in scores.values("image_source", item.benchmarks) if image_source != "all"]
    ordered = [image_source for image_source in item.image_sources if image_source in found]
    return ordered + sorted(set(found) - set(ordered)) or ["all"]


def languages(settings: ReportStage, benchmarks: Sequence[str]) -> tuple[Language, ...]:
    """Return the languages of any of the benchmarks, in the suite's order."""
    offered = {language for b in settings.benchmarks if b.name in benchmarks for language in b.files}
    return tuple(language for language in LANGUAGES if language in offered)


def scoring(settings: ReportStage, benchmark: str) -> str:
    """How the accuracies of `benchmark` that tables show are counted."""
    return next((b.scoring for b in settings.benchmarks if b.name == benchmark), "vanilla")


def groups(item: ReportItem, settings: ReportStage) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return column groups: each benchmark with those of the item's columns that it has."""
    return tuple(
        (benchmark, names)
        for benchmark in item.benchmarks
        if (names := _columns(item, languages(settings, [benchmark])))
    )


def _columns(item: ReportItem, languages: Sequence[str]) -> tuple[str, ...]:
    """Return the item's columns for a benchmark in the languages `languages`."""
    pools = {"languages": [*languages], "non_english": [NON_ENGLISH] if set(languages) - {"en"} else []}
    named = {language: [language] for language in languages}
    return tuple(dict.fromkeys(name for column in item.columns for name in (pools | named).get(column, ())))


def columns(item: ReportItem, settings: ReportStage) -> list[tuple[str, str]]:
    """Every column of `groups` as (benchmark, language or NON_ENGLISH)."""
    return [(benchmark, column) for benchmark, names in groups(item, settings) for column in names]


def words(item: ReportItem, settings: ReportStage) -> dict[str, str]:
    """Names as the reader sees them."""
    named = {b.name: f"{b.called} ({b.scoring})" for b in settings.benchmarks}
    runs = {run.name: run.called for run in settings.runs}
    return WORDS | item.image_sources | named | runs | stage1_runs(settings)


def row(item: ReportItem, settings: ReportStage, lookup: Lookup) -> tuple[Cell, ...]:
    """One cell for each column of `groups`, of means without its interval; `lookup` finds it by benchmark, language."""
    return tuple(
        Cell(cell.value) if language == NON_ENGLISH else cell
        for benchmark, language in columns(item, settings)
        for cell in [lookup(benchmark, language)]
    )


def mean(cells: Sequence[Cell]) -> Cell:
    """Return the mean of the values, missing where any of them is; it has no interval of its own."""
    values = [cell.value for cell in cells if cell.value is not None]
    return Cell(sum(values) / len(values)) if values and len(values) == len(cells) else MISSING


def _accuracy(item: ReportItem, settings: ReportStage, scores: Scores, items: Items) -> Built:
    rows: Rows = []
    for image_source in image_sources(item, scores):
        by_run: dict[str, tuple[Cell, ...]] = {}
        for run in settings.runs:
            lookup = _lookup(settings, scores, run.name, image_source=image_source)
            cells = tuple(lookup(benchmark, language) for benchmark, language in columns(item, settings))
            by_run[run.name] = cells
            rows.append(((image_source, run.name), cells))
            rows += _beside_the_paper(item, settings, image_source, run.name, cells)
        for runs, seeds in several_seeds(settings):
            means = [
                mean(found)
                if scoring(settings, benchmark) in UNBOUNDED
                else items.accuracy(runs[0], benchmark, image_source, _languages_of(settings, benchmark, column))
                for (benchmark, column), *found in zip(
                    columns(item, settings), *(by_run[run] for run in runs), strict=True
                )
            ]
            rows.append(((image_source, seeds), tuple(means)))
    return rows, ("image_source", "run"), _accuracy_note(item, settings)


def _beside_the_paper(
    item: ReportItem, settings: ReportStage, image_source: str, run: str, cells: Sequence[Cell]
) -> list[tuple[tuple[str, str], tuple[Cell, ...]]]:
    """Return the paper's row for a run and the run's minus it, where both are of the paper's scale and benchmarks."""
    compare, own = item.compare, [name for name in item.benchmarks if _is_the_papers(item, settings, name)]
    if compare is None or not own or image_source != "all":
        return []
    rows = []
    for system in compare.systems:
        if system.name == run:
            found = {name: _with_mean(published_row(Path(settings.published), compare, name, system)) for name in own}
            printed = row(item, settings, lambda name, code, found=found: found.get(name, {}).get(code, MISSING))  # type: ignore[misc]
            called = f"{system.system} ({system.llm})" if system.llm else system.system
            rows.append(((image_source, f"the paper's {called}"), printed))
            rows.append(((image_source, f"{run} minus the paper's"), tuple(map(_minus, cells, printed))))
    return rows


def _with_mean(found: dict[str, Cell]) -> dict[str, Cell]:
    return found | {NON_ENGLISH: mean([cell for language, cell in found.items() if language != "en"])}


def _is_the_papers(item: ReportItem, settings: ReportStage, name: str) -> bool:
    """Return whether the items of benchmark `name` are those of the paper's values: pinned files at its scale."""
    pinned = any(
        b.name == name and b.source != "composed" and b.md5.keys() >= b.files.keys() for b in settings.benchmarks
    )
    return settings.scale == PAPER_SCALE and item.compare is not None and name in item.compare.tables and pinned


def _minus(cell: Cell, printed: Cell) -> Cell:
    """Return the difference, whose interval is that of the run's own value."""
    if cell.value is None or printed.value is None:
        return MISSING
    low, high = (None if bound is None else bound - printed.value for bound in (cell.low, cell.high))
    return Cell(cell.value - printed.value, low, high)


def published_grid(item: ReportItem, path: Path) -> Grid:
    """Return a table of kind published, from the CSV `path`.

    Raises:
        UserError: the file lacks a value.
    """
    compare = item.compare
    assert compare is not None
    groups: dict[str, tuple[str, ...]] = {}
    rows = []
    for system in compare.systems:
        cells: list[Cell] = []
        for name in item.benchmarks:
            found = published_row(path, compare, name, system)
            names = _columns(item, list(found))
            if groups.setdefault(compare.tables[name].benchmark, names) != names:
                raise UserError(f"{path}: {system.system}: {name}: expected values in {', '.join(groups[name])}")
            others = mean([cell for language, cell in found.items() if language != "en"])
            cells += [others if column == NON_ENGLISH else found[column] for column in names]
        rows.append(((compare.paper, system.name), tuple(cells)))
    named = {where.benchmark: f"{where.benchmark} ({where.table})" for where in compare.tables.values()}
    named |= {"system": "Model", compare.paper: f"The paper, {compare.paper}"}
    return Grid(item.title, item.note, ("source", "system"), tuple(groups.items()), tuple(rows), WORDS | named)


def _accuracy_note(item: ReportItem, settings: ReportStage) -> str:
    beside = ""
    if any(_is_the_papers(item, settings, name) for name in item.benchmarks):
        beside = f" Values of {item.compare.paper} as printed, without an interval; differences have the run's own."  # type: ignore[union-attr]
    if not several_seeds(settings):
        return f"Accuracy in per cent; {INTERVAL}.{beside}"
    summed = [settings.titles.get(name, name) for name in item.benchmarks if scoring(settings, name) in UNBOUNDED]
    means = f" Several seeds' scores of {', '.join(summed)} are averaged, without an interval." if summed else ""
    return f"Accuracy in per cent; {INTERVAL}, of several seeds over these too.{means}{beside}"


def _kinds(item: ReportItem, settings: ReportStage, scores: Scores, items: Items) -> Built:
    rows: Rows = [
        (
            (image_source, label.removeprefix(L2), run.name),
            row(item, settings, _lookup(settings, scores, run.name, image_source=image_source, **where)),
        )
        for image_source in image_sources(item, scores)
        for label, where in _divisions(item, scores)
        for run in settings.runs
    ]
    by_kind = item.by == "kind" and any(scoring(settings, name) not in UNBOUNDED for name in item.benchmarks)
    guess = "Guessing gives 25 with four options and 50 with two." if by_kind else ""
    none = "" if rows else "None of these benchmarks has more than one split."
    return (
        rows,
        ("image_source", item.by, "run"),
        " ".join(filter(None, (f"Accuracy in per cent; {INTERVAL}.", guess, none))),
    )


def _divisions(item: ReportItem, scores: Scores) -> list[tuple[str, dict[str, str]]]:
    """Return what `item` divides questions by: each part's name, and where scores.csv has it."""
    if item.by == "split":
        return [(name, {"split": name}) for name in scores.values("split", item.benchmarks) if name != "all"]
    found = [kind for kind in scores.values("kind", item.benchmarks) if kind.startswith(L2) == (item.by != "kind")]
    kinds = [k for k in KINDS if k in found] + sorted(set(found) - {*KINDS, "all"})
    return [(kind, {"kind": kind}) for kind in kinds]


def _controls(item: ReportItem, settings: ReportStage, scores: Scores, items: Items) -> Built:
    # With two and four options mixed, chance would have no single value.
    four = "four_option" in scores.values("kind", item.benchmarks)
    kind = "four_option" if four else "all"
    rows: Rows = []
    for image_source in image_sources(item, scores):
        for run in settings.runs:
            for measure, lookup in _measures(item, settings, scores, run.name, image_source=image_source, kind=kind):
                rows.append(((image_source, run.name, measure), row(item, settings, lookup)))
        for run_name in stage1_runs(settings) if "text" in _offered(item, settings) else ():
            before = _lookup(settings, scores, run_name, image_source=image_source, kind=kind, control="text")
            rows.append(((image_source, run_name, "text_before"), row(item, settings, before)))
    chance = "Four-option questions, where guessing gives 25. " if four else ""
    return rows, ("image_source", "run", "measure"), f"{chance}Per cent; {INTERVAL}."


def stage1_runs(settings: ReportStage) -> dict[str, str]:
    """Name the stage-1 models of the runs, ``align/{key}``, in words."""
    names: dict[str, list[str]] = {}
    for run in settings.runs:
        if run.stage1_key is not None:
            names.setdefault(f"align/{run.stage1_key}", []).append(run.name)
    return {name: f"stage 1 of {', '.join(runs)}" for name, runs in names.items()}


def _offered(item: ReportItem, settings: ReportStage) -> list[Control]:
    """Return the controls that any of the item's benchmarks supports."""
    supported = {control for b in settings.benchmarks if b.name in item.benchmarks for control in b.controls}
    return [control for control in get_args(Control) if control in supported]


def _differences(item: ReportItem, settings: ReportStage, scores: Scores, items: Items) -> Built:
    measured = [
        (benchmark, _languages_of(settings, benchmark, column)) for benchmark, column in columns(item, settings)
    ]
    rows, claims = comparisons.differences(settings.compared(item), image_sources(item, scores), measured, items)
    apart = ", apart from the primary contrast" if settings.contrast else ""
    note = comparisons.note(INTERVAL, claims, [seeds for _, seeds in several_seeds(settings)], apart)
    return rows, ("image_source", "comparison", "measure"), note


def several_seeds(settings: ReportStage) -> list[tuple[list[str], str]]:
    """Return the runs that are one run at several seeds: their names, and their name together, by the first one's."""
    found = [by_seed for by_seed in settings.by_recipe.values() if len(by_seed) > 1]
    return [
        (names, f"{names[0]} at seeds {', '.join(map(str, sorted(by_seed)))}")
        for by_seed in found
        for names in [list(by_seed.values())]
    ]


def _languages_of(settings: ReportStage, benchmark: str, column: str) -> tuple[str, ...]:
    if column != NON_ENGLISH:
        return (column,)
    return tuple(language for language in languages(settings, [benchmark]) if language != "en")


def _measures(
    item: ReportItem, settings: ReportStage, scores: Scores, run: str, **where: str
) -> list[tuple[str, Lookup]]:
    offered = _offered(item, settings)
    measures = [(control, _lookup(settings, scores, run, control=control, **where)) for control in offered]
    shares = ("unmatched", "other_language")
    return measures + [(share, _lookup(settings, scores, run, share=share, **where)) for share in shares]


def _lookup(settings: ReportStage, scores: Scores, run: str, share: str | None = None, **where: str) -> Lookup:
    def cell(benchmark: str, language: str) -> Cell:
        found = scores.find(run, benchmark, language, scoring=scoring(settings, benchmark), **where)
        if found is None:
            return MISSING
        return accuracy_cell(found) if share is None else Cell(getattr(found, share))

    return cell


def published_row(path: Path, compare: Compare, benchmark: str, system: PublishedSystem) -> dict[str, Cell]:
    """Return the published accuracies, in per cent, of `system` on `benchmark` by language.

    Args:
        path: a CSV with the columns `COLUMNS`.
        compare: where the values of each benchmark are.
        benchmark: one of ``compare.tables``.
        system: whose values.

    Raises:
        UserError: the file cannot be read, or holds none or several of these values.
    """
    where = compare.tables[benchmark]
    wanted = {"system": system.system, "benchmark": where.benchmark, "source": f"{compare.paper} {where.table}"}
    wanted |= {"metric": METRIC} | ({"llm": system.llm} if system.llm else {})
    found: dict[str, Cell] = {}
    for row in _read(path):
        if wanted.items() <= row.items():
            if row["language"] in found:
                raise UserError(f"{path}: two values for {', '.join(wanted.values())} in {row['language']}; give llm")
            found[row["language"]] = Cell(_number(path, row))
    if not found:
        raise UserError(f"{path}: no value for {', '.join(wanted.values())}")
    return found


@cache
def _read(path: Path) -> tuple[Mapping[str, str], ...]:
    lines = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        rows = tuple(lines)
    except csv.Error:
        rows = ()
    if not rows or {*COLUMNS} - {*(lines.fieldnames or ())}:
        raise UserError(f"{path}: expected the columns {', '.join(COLUMNS)}")
    return rows


def _number(path: Path, row: Mapping[str, str]) -> float:
    try:
        return float(row["value"])
    except (TypeError, ValueError):
        raise UserError(f"{path}: value {row['value']!r}: expected a number") from None
