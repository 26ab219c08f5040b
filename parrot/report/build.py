"""Build a report: every table, figure and the page of one `ReportStage`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parrot.report.settings import ReportStage


def build(settings: ReportStage, scores: Sequence[Path], results: Path, output: Path) -> None:
    """Write `settings.outputs()` under `output`.

    Args:
        settings: what to show; see `parrot.report.settings.report_stage`.
        scores: one or more scores.csv files, together covering the runs of `settings`.
        results: the scale's results folder, where ``{run}/`` and ``align/{key}/`` hold predictions and records.
        output: folder for ``tables/``, ``figures/`` and ``report.html``.

    Raises:
        ConfigError: a scores file is missing, malformed or says two things of one cell.
    """
    raise NotImplementedError
