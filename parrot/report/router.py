"""How much the router's choice says of a question's language and kind: a table of runs, and a text about one run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from parrot.config.benchmarks import Benchmark, Control, prediction_file
from parrot.config.catalog import Language
from parrot.errors import UserError
from parrot.evaluate.predictions import read_manifest, read_predictions
from parrot.evaluate.router_stats import (
    PERMUTATIONS,
    Information,
    Routing,
    by_kind,
    by_language,
    entropies,
    read_routing,
)
from parrot.report import labels, tables
from parrot.report.grid import MISSING, Cell, Grid
from parrot.report.settings import ReportItem, ReportStage

MEASURED = ("information", "chance_mean", "chance_high")
GROUPS = (("entropy", ("question", "share", "mean_weights")), ("by_language", MEASURED), ("by_kind", MEASURED))
WORDS = {
    "entropy": "Entropy of the router's weights",
    "question": "each question's (bits)",
    "share": "the same (% of log2 E)",
    "mean_weights": "the mean weights' (bits)",
    "by_language": "Mutual information of expert and language",
    "by_kind": "Mutual information of expert and question kind",
    "information": "information (bits)",
    "chance_mean": "labels permuted: mean",
    "chance_high": "labels permuted: 95th percentile",
}


@dataclass(frozen=True)
class Summary:
    """One benchmark's routing in numbers, in bits; languages count equally, and so do questions.

    Attributes:
        entropy: mean over questions and languages of the entropy of w(expert | question).
        mean_entropy: entropy of the mean weights; no higher than `entropy` only where all weights are the same.
        language: I(expert; language).
        kind: I(expert; question kind); None where the predictions name no kinds.
    """

    questions: int
    languages: int
    experts: int
    entropy: float
    mean_entropy: float
    language: Information
    kind: Information | None

    @property
    def share(self) -> float:
        """Per cent: `entropy` of the log2 E bits of an even choice."""
        return 100 * self.entropy / float(np.log2(self.experts))


def summarise(routing: Routing, seed: int) -> Summary:
    """Needs two experts or more: one leaves nothing to choose."""
    questions, languages, experts = routing.weights.shape
    assert experts > 1
    over_languages = routing.weights.mean(axis=1)
    return Summary(
        questions=questions,
        languages=languages,
        experts=experts,
        entropy=float(routing.entropies.mean()),
        mean_entropy=float(entropies(over_languages.mean(axis=0))),
        language=by_language(routing.weights, seed),
        kind=by_kind(over_languages, routing.kinds, routing.images, seed) if any(routing.kinds) else None,
    )


def grid(item: ReportItem, settings: ReportStage, results: Path) -> Grid:
    """One row a benchmark and run; runs with fewer than two experts are named in the note instead.

    Raises:
        UserError: a run with experts has predictions that are missing, malformed or without weights.
    """
    rows = tuple(
        ((benchmark.name, run.name), _cells(_summary(benchmark, results / run.name / "predictions", settings.seed)))
        for benchmark in settings.benchmarks
        if benchmark.name in item.benchmarks
        for run in settings.runs
        if run.num_experts > 1
    )
    without = [run.name for run in settings.runs if run.num_experts < 2]
    note = (
        "The information is the entropy of the mean weights minus the mean entropy of each language's, or each kind's, "
        "mean weights. Languages count equally, and a circular question counts once. Chance alone gives more than 0: "
        f"the same with labels permuted {PERMUTATIONS} times, languages within a question and kinds between questions."
        f" Conventions: prompt_language {labels.conventions(item, settings)['prompt_language']}."
    ) + (f" Without a choice of experts: {', '.join(without)}." if without else "")
    names = tables.words(item, settings) | WORDS
    return Grid(item.title, note, ("benchmark", "run"), GROUPS, rows, names, axes=("quantity", "number"))


def text(folder: Path, known: Iterable[Benchmark], control: Control = "none", seed: int = 0) -> str:
    """Return the routing of one run's predictions, a column per benchmark.

    Raises:
        UserError: `folder` holds no predictions of a `known` benchmark, or predictions without a choice of experts.
    """
    found = {b.called: _summary(b, folder, seed, control) for b in _predicted(folder, known, control)}
    columns = [[cell.text or "unknown" for cell in _cells(summary)] for summary in found.values()]
    lines = [["", *found], ["questions", *(str(summary.questions) for summary in found.values())]]
    lines += [["languages", *(str(summary.languages) for summary in found.values())]]
    lines += [["experts", *(str(summary.experts) for summary in found.values())]]
    place = 0
    for group, measured in GROUPS:
        lines.append([WORDS[group]])
        for name in measured:
            lines.append([f"  {WORDS[name]}", *(column[place] for column in columns)])
            place += 1
    widths = [max(len(line[i]) for line in lines if len(line) > i) for i in range(1 + len(found))]
    aligned = [
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(widths[i]) for i, cell in enumerate(line[1:], start=1))])
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in aligned)


def _predicted(folder: Path, known: Iterable[Benchmark], control: Control) -> list[Benchmark]:
    """Return those of the `known` benchmarks that `folder` answers, each with the languages that are there."""
    names = read_manifest(folder).files
    found = []
    for benchmark in known:
        files = {
            language: file
            for language, file in benchmark.files.items()
            if prediction_file(folder, file, control).name in names
        }
        found += [benchmark.model_copy(update={"files": files})] if files else []
    if not found:
        shown = "" if control == "none" else f" under the control {control}"
        raise UserError(f"{folder}: expected predictions of a benchmark of config/benchmarks.yaml{shown}, found none")
    return found


def _summary(benchmark: Benchmark, folder: Path, seed: int, control: Control = "none") -> Summary:
    routing = read_routing(benchmark, folder, control)
    if routing.experts < 2:
        why = "one, which leaves nothing to choose" if routing.experts else "none: no experts, or no images to route"
        raise UserError(f"{folder}: {benchmark.name}: router_weights: expected two experts or more, found {why}")
    return summarise(routing, seed)


def _cells(summary: Summary) -> tuple[Cell, ...]:
    """As in `GROUPS`."""
    return (
        Cell(summary.entropy, text=f"{summary.entropy:.4f}"),
        Cell(summary.share, text=f"{summary.share:.3f}"),
        Cell(summary.mean_entropy, text=f"{summary.mean_entropy:.4f}"),
        *_information(summary.language),
        *_information(summary.kind),
    )


def _information(found: Information | None) -> tuple[Cell, ...]:
    if found is None:
        return (MISSING,) * len(MEASURED)
    verdict = ", within chance" if found.within_chance else ""
    return (
        Cell(found.bits, text=f"{found.bits:#.3g}{verdict}"),
        Cell(found.chance_mean, text=f"{found.chance_mean:#.3g}"),
        Cell(found.chance_high, text=f"{found.chance_high:#.3g}"),
    )


def mean_router_weights(
    settings: ReportStage, results: Path, run: str, benchmarks: tuple[str, ...]
) -> dict[Language, np.ndarray]:
    """Mean router weights (E,) by question language over the rows of `benchmarks`; {} for a run without experts."""
    found: dict[Language, list[list[float]]] = {}
    for benchmark in settings.benchmarks:
        if benchmark.name not in benchmarks:
            continue
        for language in benchmark.files:
            table = read_predictions(benchmark, language, results / run / "predictions", required=("router_weights",))
            found.setdefault(language, []).extend(json.loads(text) for text in table["router_weights"] if text)
    return {language: np.mean(weights, axis=0) for language, weights in found.items() if any(weights)}
