"""report.html: one self-contained page; pictures are data URIs and nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from parrot.files import atomic_write
from parrot.report import notes, samples, tables
from parrot.report.grid import Grid
from parrot.report.provenance import what_ran
from parrot.report.published import language_contrast
from parrot.report.render import interval, number, to_html
from parrot.report.scores import Cell, Scores
from parrot.report.settings import ReportStage
from parrot.report.template import environment
from parrot.report.units import Units
from parrot.report.words import LANGUAGE_NAMES, WORDS


@dataclass(frozen=True)
class Section:
    """A table or a figure on the page."""

    name: str
    kind: str
    by: str
    title: str
    body: Markup
    note: str
    published: str


@dataclass(frozen=True)
class Headline:
    """A run's two numbers that the page opens with."""

    run: str
    label: str
    english: str
    others: str
    spread: str


def write(
    settings: ReportStage,
    scores: Scores,
    units: Units,
    results: Path,
    grids: Mapping[str, Grid],
    figures: Mapping[str, tuple[Path, str]],
    output: Path,
) -> None:
    """Write the page to `output`.

    `grids` are the tables by name; `figures` the PNG of each figure and what it shows in words.
    """
    published = language_contrast(Path(settings.published))
    templates = environment()
    templates.filters["number"] = number
    page = templates.get_template("page.html.j2").render(
        settings=settings,
        headlines=_headlines(settings, grids),
        several_seeds=[seeds for _, seeds in tables.several_seeds(settings)],
        where=_where(settings, scores),
        sections=[_section(name, settings, grids, figures) for name in settings.items],
        samples=samples.choose(settings, results, units),
        languages=LANGUAGE_NAMES,
        words=WORDS | {house: text for item in settings.items.values() for house, text in item.houses.items()},
        published=Markup(to_html(published)),
        published_note=published.note,
        published_gain=_gain(published),
        ran=what_ran(settings, results),
    )
    atomic_write(output, page)


def _section(
    name: str, settings: ReportStage, grids: Mapping[str, Grid], figures: Mapping[str, tuple[Path, str]]
) -> Section:
    item = settings.items[name]
    if name in grids:
        body, note = Markup(to_html(grids[name])), grids[name].note
    else:
        body, note = _picture(*figures[name]), notes.followed(item, settings) if item.kind == "bars" else ""
    return Section(name, item.kind, item.by, item.title, body, note, item.published)


def _picture(path: Path, alt: str) -> Markup:
    data = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, alt)


def _headline_table(settings: ReportStage) -> str | None:
    return next((name for name, item in settings.tables.items() if item.kind == "accuracy"), None)


def _where(settings: ReportStage, scores: Scores) -> str:
    """What the headline's numbers are measured on, in words."""
    name = _headline_table(settings)
    if name is None:
        return ""
    item = settings.items[name]
    house = tables.houses(item, scores)[0]
    return settings.titles[item.benchmarks[0]] + ("" if house == "all" else f", {item.houses.get(house, house)}")


def _headlines(settings: ReportStage, grids: Mapping[str, Grid]) -> list[Headline]:
    """The first benchmark of the first accuracy table, on its first house, run by run."""
    name = _headline_table(settings)
    if name is None:
        return []
    grid = grids[name]
    benchmark = grid.columns[0][0]
    first_house = grid.rows[0][0][0]
    labels = {run.name: run.label for run in settings.runs}
    found = []
    for (house, run), cells in grid.rows:
        if house != first_house or run not in labels:
            continue
        by_language = {
            language: cell for (b, language), cell in zip(grid.columns, cells, strict=True) if b == benchmark
        }
        others = by_language.get(tables.NON_ENGLISH, Cell(None))
        found.append(Headline(run, labels[run], _said(by_language.get("en")), _said(others), interval(others)))
    return found


def _said(cell: Cell | None) -> str:
    return "missing" if cell is None or cell.value is None else number(cell.value)


def _gain(published: Grid) -> dict[str, Any]:
    """By how many points the paper's six-language data lifts the non-English mean, by benchmark."""
    (_, english), (_, multilingual) = published.rows
    return {
        benchmark: multilingual[i].value - english[i].value  # type: ignore[operator]
        for i, (benchmark, language) in enumerate(published.columns)
        if language == tables.NON_ENGLISH
    }
