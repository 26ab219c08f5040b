"""The report's figures; equal scores and records give equal bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from parrot.constants import LANGUAGES, PAPER_LANGUAGES
from parrot.evaluate.scores_csv import Scores
from parrot.io.files import atomic_path
from parrot.report import tables
from parrot.report.grid import Cell, accuracy_cell
from parrot.report.router import mean_router_weights
from parrot.report.settings import ReportedRun, ReportItem, ReportStage
from parrot.train.record import heldout_losses, training_loss

# Distinguishable with any colour vision and in print (Paul Tol's bright scheme, grey first for the baseline).
COLOURS = ("#9a9a9a", "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#222222")
MARKERS = "os^Dv*PXp<>"  # with the colours 77 pairs, more than are told apart
# Keys are typed one by one in matplotlib.
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    # Element ids in SVG are random without a salt.
    "svg.hashsalt": "parrot",
}


def draw(item: ReportItem, settings: ReportStage, scores: Scores, results: Path) -> tuple[Figure, str]:
    """Draw the figure of `item`, and describe it in a sentence for those who cannot see it."""
    with plt.rc_context(STYLE):
        if item.kind == "bars":
            return _bars(item, settings, scores)
        return _router(item, settings, results) if item.kind == "router" else _losses(item, settings, results)


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as ``path.png`` and ``path.svg`` without dates or versions in them, and close it."""
    with plt.rc_context(STYLE):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None, "Creator": None})):
            with atomic_path(path.with_suffix(suffix)) as partial:
                figure.savefig(partial, dpi=150, metadata=metadata)
    plt.close(figure)


def by_training(runs: Sequence[ReportedRun]) -> list[ReportedRun]:
    """Order runs from the least to the most: languages first, then experts (the order of Figure 7a)."""
    return sorted(runs, key=lambda run: (len(run.languages), run.num_experts))


def _bars(item: ReportItem, settings: ReportStage, scores: Scores) -> tuple[Figure, str]:
    benchmark, image_source = item.benchmarks[0], tables.image_sources(item, scores)[0]
    languages, runs = tables.languages(settings, [benchmark]), by_training(settings.runs)
    counted = tables.scoring(settings, benchmark)
    figure, axes = plt.subplots(figsize=(max(8, 1.3 * len(languages)), 4))
    width = 0.8 / len(runs)
    spoken = []
    for position, run in enumerate(runs):
        found = [
            scores.find(run.name, benchmark, language, image_source=image_source, scoring=counted)
            for language in languages
        ]
        cells = [accuracy_cell(score) for score in found]
        offsets = np.arange(len(languages)) + (position - (len(runs) - 1) / 2) * width
        heights = [np.nan if cell.value is None else cell.value for cell in cells]
        colour = COLOURS[position % len(COLOURS)]
        axes.bar(offsets, heights, width * 0.92, color=colour, label=run.called)
        axes.errorbar(offsets, heights, _whiskers(cells), fmt="none", ecolor="#222222", elinewidth=1, capsize=2)
        _mark_missing(axes, offsets, cells)
        spoken.append(f"{run.name}: " + ", ".join(_spoken(languages[i], cell) for i, cell in enumerate(cells)))
    axes.set_xticks(range(len(languages)), [LANGUAGES[language].name for language in languages])
    axes.set_ylim(0, 100)
    axes.set_ylabel("accuracy (%), 95 % interval")
    axes.set_xlabel("language of the questions")
    shown = "" if image_source == "all" else f", {item.image_sources.get(image_source, image_source)}"
    axes.set_title(f"{item.title}\n{settings.titles[benchmark]} ({counted}){shown}")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure, f"Grouped bars of accuracy in per cent. {'; '.join(spoken)}."


def _whiskers(cells: Sequence[Cell]) -> np.ndarray:
    """Distances (2, N) from the values down and up to the ends of their intervals; zero where there is none."""
    distances = np.zeros((2, len(cells)))
    for i, cell in enumerate(cells):
        if cell.value is not None and cell.low is not None and cell.high is not None:
            distances[:, i] = max(cell.value - cell.low, 0), max(cell.high - cell.value, 0)
    return distances


def _mark_missing(axes: Axes, offsets: np.ndarray, cells: Sequence[Cell]) -> None:
    for offset, cell in zip(offsets, cells, strict=True):
        if cell.value is None:
            axes.text(offset, 1, "missing", rotation=90, ha="center", va="bottom", fontsize=7, color="#555555")


def _spoken(language: str, cell: Cell) -> str:
    return f"{LANGUAGES[language].name} {'missing' if cell.value is None else f'{cell.value:.1f}'}"


def _router(item: ReportItem, settings: ReportStage, results: Path) -> tuple[Figure, str]:
    with_experts = [run for run in settings.runs if run.num_experts]
    if not with_experts:
        return _nothing(item, "None of these runs has experts.")
    run = with_experts[0]
    means = mean_router_weights(settings, results, run.name, item.benchmarks)
    languages = [language for language in LANGUAGES if language in means]
    weights = 100 * np.array([means[language] for language in languages])
    experts = weights.shape[1]
    deviations = weights - 100 / experts
    figure, (absolute, relative) = plt.subplots(1, 2, figsize=(10.4, max(3.8, 0.5 * len(languages) + 0.8)), sharey=True)
    figure.suptitle(item.title, x=0.01, ha="left", fontsize=12)
    _heat_map(absolute, weights, "mean router weight (%)", "Blues", (0, weights.max()))
    # Symmetrical, so that white is uniform; nothing to see stays white.
    most = max(np.abs(deviations).max(), 0.01)
    _heat_map(relative, deviations, f"points from uniform ({100 / experts:.1f} %)", "RdBu_r", (-most, most), "+.2f")
    absolute.set_yticks(range(len(languages)), [LANGUAGES[language].name for language in languages])
    absolute.set_ylabel("language of the questions")
    for axes in (absolute, relative):
        axes.set_xlabel(f"expert of {run.name}")
    spoken = "; ".join(
        f"{LANGUAGES[language].name}: " + ", ".join(f"{weight:.1f}" for weight in row)
        for language, row in zip(languages, weights, strict=True)
    )
    furthest = f"The furthest from uniform is {np.abs(deviations).max():.2f} points off."
    return figure, f"Heat maps of mean router weights in per cent, experts 1 to {experts}. {spoken}. {furthest}"


def _heat_map(
    axes: Axes, values: np.ndarray, title: str, colours: str, limits: tuple[float, float], form: str = ".1f"
) -> None:
    """`values` (languages, experts) as coloured and numbered cells, from the first to the second of `limits`."""
    low, high = limits
    axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto")
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(values.shape[1]), [str(1 + expert) for expert in range(values.shape[1])])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for (i, j), value in np.ndenumerate(values):
        dark = abs(value) > 0.6 * high
        axes.text(j, i, f"{value:{form}}", ha="center", va="center", color="white" if dark else "#222222", fontsize=9)


def _nothing(item: ReportItem, why: str) -> tuple[Figure, str]:
    figure, axes = plt.subplots(figsize=(6.4, 3.8))
    axes.set_title(item.title)
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes)
    return figure, why


def _line_styles(languages: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return a colour and a marker for each language, the paper's the same in every figure."""
    pairs = zip(itertools.cycle(COLOURS[1:]), itertools.cycle(MARKERS), strict=False)
    styles = ({"color": colour, "marker": marker} for colour, marker in pairs)
    return dict(zip(languages, styles, strict=False))


def _losses(item: ReportItem, settings: ReportStage, results: Path) -> tuple[Figure, str]:
    runs = by_training([run for run in settings.runs if not run.pretrained])
    if not runs:
        return _nothing(item, "None of these runs was trained.")
    figure, panels = plt.subplots(1, len(runs), figsize=(max(4, 3 * len(runs)), 3.4), sharey=True, squeeze=False)
    spoken = []
    by_run = {run.name: heldout_losses(results / run.name / "metrics.jsonl") for run in runs}
    present = {language for curves in by_run.values() for language in curves}
    styles = _line_styles(language for language in LANGUAGES if language in {*PAPER_LANGUAGES, *present})
    unlabelled = set(present)
    for run, axes in zip(runs, panels[0], strict=True):
        curves = by_run[run.name]
        languages = [language for language in LANGUAGES if language in curves]
        trained = training_loss(results / run.name / "metrics.jsonl")
        label = "training, all its languages" if run is runs[0] else None
        axes.plot(*trained, color=COLOURS[0], linewidth=0.8, alpha=0.7, label=label)
        for language in languages:
            steps, losses = curves[language]
            label = f"held out, {LANGUAGES[language].name}" if language in unlabelled else None
            unlabelled.discard(language)
            axes.plot(steps, losses, **styles[language], markersize=4, label=label)
        axes.set_title(f"{run.name}\n{run.label}", fontsize=9)
        axes.set_xlabel("optimiser step of stage 2")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(color="#dddddd", linewidth=0.6)
        ends = [f"training {loss:.2f}" for loss in trained[1][-1:]]
        ends += [f"{LANGUAGES[language].name} {curves[language][1][-1]:.2f}" for language in languages]
        spoken.append(f"{run.name} ends at {', '.join(ends) or 'no record'}")
    panels[0][0].set_ylabel("loss")
    panels[0][0].set_ylim(bottom=0)
    figure.suptitle(item.title, x=0.01, ha="left", fontsize=12)
    if panels[0][0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure, f"Curves of training loss and of held-out loss by language during stage 2. {'; '.join(spoken)}."
