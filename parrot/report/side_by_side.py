"""Runs side by side on a terminal: accuracies, differences with intervals and p, and the headline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from parrot.evaluate.scores_csv import read_scores
from parrot.report import contrast, tables
from parrot.report.comparisons import Items
from parrot.report.render import to_text
from parrot.report.scores import check_complete
from parrot.report.settings import ReportStage

LEFT_OUT = ("detectable",)


def text(settings: ReportStage, results: Path) -> str:
    """Return the tables of `settings` as text, the headline last; UserError for malformed scores or grades."""
    scores, items = read_scores([results / run.name / "scores.csv" for run in settings.runs]), Items(settings, results)
    check_complete(scores, settings, results)
    parts = []
    for item in settings.tables.values():
        if item.kind == "contrast":
            continue
        grid = tables.grid(item, settings, scores, items)
        grid = replace(grid, rows=tuple(row for row in grid.rows if row[0][-1] not in LEFT_OUT))
        parts += [f"{grid.title}. {grid.note}", to_text(grid)]
    return "\n\n".join(filter(None, [*parts, contrast.headline(settings, scores, items)]))
