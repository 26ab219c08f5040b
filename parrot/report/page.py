"""report.html: one self-contained page; images are data URIs and nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from parrot.constants import LANGUAGES
from parrot.evaluate.scores_csv import NON_ENGLISH, Scores
from parrot.io.files import atomic_write
from parrot.report import labels, samples, tables
from parrot.report.comparisons import Items
from parrot.report.contrast import Measure, answer, by_languages, measure, question
from parrot.report.grid import Cell, Grid, accuracy_cell
from parrot.report.labels import WORDS, environment
from parrot.report.provenance import held_fixed, what_ran
from parrot.report.render import interval, number, shown, to_html
from parrot.report.settings import ReportStage


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
    interval: str


def write(
    settings: ReportStage,
    scores: Scores,
    items: Items,
    results: Path,
    grids: Mapping[str, Grid],
    figures: Mapping[str, tuple[Path, str]],
    output: Path,
) -> None:
    """Write the page to `output`.

    `grids` are the tables by name; `figures` the PNG of each figure and what it shows in words.
    """
    context = settings.context
    published = tables.published_grid(context, Path(settings.published)) if context else None
    on = measure(settings, scores)
    templates = environment()
    templates.filters["number"] = number
    page = templates.get_template("page.html.j2").render(
        settings=settings,
        question=question(settings),
        fixed=held_fixed(settings, results, _pairs(settings)),
        answer=answer(settings, items, on) if on else "",
        measure=on,
        headlines=_headlines(settings, scores, on) if on else [],
        several_seeds=[seeds for _, seeds in tables.several_seeds(settings)],
        sections=[_section(name, settings, grids, figures) for name in settings.items],
        samples=samples.choose(settings, results, items),
        languages=LANGUAGES,
        words=WORDS
        | {image_source: text for item in settings.items.values() for image_source, text in item.image_sources.items()},
        context=context,
        published=Markup(to_html(published)) if published else "",
        published_gain=_gain(published) if published else {},
        ran=what_ran(settings, results),
    )
    atomic_write(output, page)


def _pairs(settings: ReportStage) -> list[tuple[str, str]]:
    """Return the runs that the page compares."""
    answered = by_languages(settings) if settings.target is None else None
    compared = [pair for item in settings.tables.values() for pair in settings.compared(item)]
    return [*([answered] if answered else []), *compared]


def _section(
    name: str, settings: ReportStage, grids: Mapping[str, Grid], figures: Mapping[str, tuple[Path, str]]
) -> Section:
    item = settings.items[name]
    if name in grids:
        body, note = Markup(to_html(grids[name])), grids[name].note
    else:
        body, note = _image(*figures[name]), labels.followed(item, settings) if item.kind == "bars" else ""
    return Section(name, item.kind, item.by, item.title, body, note, item.published)


def _image(path: Path, alt: str) -> Markup:
    data = base64.b64encode(path.read_bytes()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, alt)


def _headlines(settings: ReportStage, scores: Scores, on: Measure) -> list[Headline]:
    """Each run's accuracy in English and in the other languages together."""
    found = []
    for run in settings.runs:
        english, others = (
            accuracy_cell(scores.find(run.name, on.benchmark, language, **_asked(settings, on)))
            for language in ("en", NON_ENGLISH)
        )
        if on.languages == ("en",):
            others = Cell(english.value)
        found.append(Headline(run.name, run.label, shown(english), shown(others), interval(others)))
    return found


def _asked(settings: ReportStage, on: Measure) -> dict[str, Any]:
    return {"scoring": tables.scoring(settings, on.benchmark), "image_source": on.image_source, "kind": on.kind}


def _gain(published: Grid) -> dict[str, float]:
    """Return by how many points the last row's non-English mean lies above the first's, by benchmark."""
    (_, first), *_, (_, last) = published.rows
    return {
        benchmark: lifted.value - value.value
        for (benchmark, column), value, lifted in zip(published.columns, first, last, strict=True)
        if column == NON_ENGLISH and value.value is not None and lifted.value is not None
    }
