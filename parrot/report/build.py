"""Build a report: every table, figure and the page of one `ReportStage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parrot.evaluate.scores_csv import Scores, read_scores
from parrot.io.files import atomic_write
from parrot.report import contrast, figures, page, render, router, tables
from parrot.report.comparisons import Items
from parrot.report.grid import Grid, check_complete, to_csv
from parrot.report.settings import ReportItem, ReportStage

FORMATS = {".csv": to_csv, ".md": render.to_markdown, ".tex": render.to_latex}


def build(settings: ReportStage, scores: Sequence[Path], results: Path, output: Path) -> str:
    """Write `settings.outputs()` under `output`; what came out, in one line (`parrot.report.contrast.headline`).

    Args:
        settings: what to show; see `parrot.report.settings.report_stage`.
        scores: one or more scores.csv files, together covering the runs of `settings`.
        results: the scale's results folder, where ``{run}/`` and ``align/{key}/`` hold predictions and records.
        output: folder for ``tables/``, ``figures/`` and ``report.html``.

    Raises:
        UserError: a scores file is missing, malformed or says two things of one cell; graded items, predictions or
            records that a table or figure needs are missing or malformed.
    """
    read = read_scores(scores)
    check_complete(read, settings, results)
    items = Items(settings, results)
    grids = {name: _grid(item, settings, read, items, results) for name, item in settings.tables.items()}
    for name, grid in grids.items():
        for suffix, render_as in FORMATS.items():
            atomic_write(output / "tables" / f"{name}{suffix}", render_as(grid))
    drawn = {}
    for name, item in settings.figures.items():
        figure, told = figures.draw(item, settings, read, results)
        figures.save(figure, output / "figures" / name)
        drawn[name] = (output / "figures" / f"{name}.png", told)
    page.write(settings, read, items, results, grids, drawn, output / "report.html")
    return contrast.headline(settings, read, items, output)


def _grid(item: ReportItem, settings: ReportStage, scores: Scores, items: Items, results: Path) -> Grid:
    """Lay out the table of `item`; errors as for `build`."""
    match item.kind:
        case "information":
            return router.grid(item, settings, results)
        case "contrast":
            return contrast.grid(item, settings, scores, items)
        case _:
            return tables.grid(item, settings, scores, items)
