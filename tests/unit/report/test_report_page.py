"""The page's figures, and how it fits a reader's window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parrot.evaluate.scores_csv import read_scores
from parrot.report.build import build
from parrot.report.figures import draw
from parrot.report.settings import ReportStage
from tests.helpers import tiny_results
from tools.browser import chromium

WIDTHS = """<script>
onload = () => {
  document.querySelectorAll("details").forEach((part) => (part.open = true));
  const parts = [document.scrollingElement, ...document.querySelectorAll(".scroll")];
  const fits = parts.every((part) => part.scrollWidth <= part.clientWidth);
  document.title = fits ? "all is in sight" : "columns are hidden";
};
</script></body>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportStage, Path]:
    root = tmp_path_factory.mktemp("page")
    return tiny_results.make(root), root


def test_training_loss_stands_beside_validation_loss(made: tuple[ReportStage, Path]) -> None:
    settings, root = made
    figure, told = draw(settings.items["losses"], settings, read_scores([]), root / "results")
    training, *held_out = figure.axes[0].get_lines()
    assert list(training.get_ydata()) == [4.0 / step for step in range(1, 5)]
    assert len(held_out) == 6
    assert "parrot ends at training 1.00, English 0.75" in told


def test_the_router_is_shown_absolutely_and_as_points_from_uniform(made: tuple[ReportStage, Path]) -> None:
    settings, root = made
    figure, told = draw(settings.items["fig7c"], settings, read_scores([]), root / "results")
    absolute, deviations = (np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes)
    expected = 100 * np.array([tiny_results.ROUTER[language] for language in tiny_results.NAMES])
    assert absolute == pytest.approx(expected)
    assert deviations == pytest.approx(expected - 50)
    assert "25.00 points off" in told


@pytest.mark.browser
def test_no_column_is_hidden_in_a_window_of_1280_pixels(made: tuple[ReportStage, Path], tmp_path: Path) -> None:
    settings, root = made
    build(settings, tiny_results.score_files(root), root / "results", tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "measured.html").write_text(page.replace("</body>", WIDTHS), encoding="utf-8")
    shown = chromium((tmp_path / "measured.html").as_uri(), "--dump-dom", "--window-size=1280,1000")
    assert "<title>all is in sight</title>" in shown
