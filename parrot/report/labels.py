"""What things are called in tables, figures and pages, what tables say below their titles, and the templates.

The notes of a table name the conventions that its numbers follow, and what they leave out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from parrot.config.benchmarks import SCORINGS, Benchmark
from parrot.config.settings import Conventions
from parrot.evaluate.scores_csv import Score, Scores
from parrot.report.settings import ReportItem, ReportStage

FOLDER = Path(__file__).parent
WORDS = {
    "non_english": "non-English mean",
    "all": "all images",
    "image_source": "Image source",
    "run": "Run",
    "kind": "Question kind",
    "l2-category": "Ability (l2-category)",
    "split": "Split",
    "measure": "Measure",
    "comparison": "Comparison",
    "difference": "difference",
    "detectable": "minimum detectable effect",
    "p_holm": "p, adjusted",
    "same_different": "same or different",
    "yes_no": "yes or no",
    "fine_naming": "naming among similar concepts",
    "four_option": "all four-option kinds",
    "easy": "easy distractors",
    "hard": "hard distractors (same subgroup)",
    "seen_in_language": "concept shown in this language's training data",
    "unseen_in_language": "concept never shown in this language's training data",
    "none": "with its image",
    "shuffled": "with a wrong image",
    "text": "image replaced by its name",
    "text_before": "image replaced by its name, before stage 2",
    "unmatched": "predictions that match no option",
    "other_language": "right options in another language",
}


def prompt_languages(said: str, benchmarks: Sequence[Benchmark]) -> str:
    """Return the runs' prompt_language and that of benchmarks with their own: ``dataset; group for MMBench_DEV_CN``."""
    own = [f"{entry.prompt_language} for {entry.called}" for entry in benchmarks if entry.prompt_language]
    return "; ".join(own if own and len(own) == len(benchmarks) else [said, *own])


def about(item: ReportItem, settings: ReportStage, scores: Scores) -> tuple[str, str, str]:
    """Return the sentences below a table's title, besides its own."""
    return scales(item, settings), gaps(item, settings, scores), followed(item, settings)


def conventions(item: ReportItem, settings: ReportStage) -> dict[str, str]:
    """Each convention's value, with the names of the runs where they differ: ``dataset (parrot); group (english)``.

    Benchmarks of the item that have a prompt_language of their own are named too.
    """
    shown = [benchmark for benchmark in settings.benchmarks if benchmark.name in item.benchmarks]
    found = {}
    for name in Conventions.model_fields:
        runs: dict[str, list[str]] = {}
        for run in settings.runs:
            runs.setdefault(getattr(run.conventions, name), []).append(run.name)
        one = len(runs) == 1
        said = "; ".join(value if one else f"{value} ({', '.join(names)})" for value, names in runs.items())
        found[name] = prompt_languages(said, shown) if name == "prompt_language" else said
    return found


def followed(item: ReportItem, settings: ReportStage) -> str:
    """Put the conventions in a sentence."""
    return f"Conventions: {', '.join(f'{name} {value}' for name, value in conventions(item, settings).items())}."


def scales(item: ReportItem, settings: ReportStage) -> str:
    """Name the unit of the item's benchmarks where they are no accuracies."""
    shown = [b for b in settings.benchmarks if b.name in item.benchmarks]
    return " ".join(f"{b.called}: {unit}." for b in shown if (unit := SCORINGS[b.scoring].unit))


def gaps(item: ReportItem, settings: ReportStage, scores: Scores) -> str:
    """Which rows of the item's benchmarks are missing or rejected, run by run where runs differ; "" for none."""
    found: dict[str, list[str]] = {}
    for run in settings.runs:
        for benchmark in settings.benchmarks:
            if benchmark.name not in item.benchmarks:
                continue
            for language in benchmark.files:
                score = scores.find(run.name, benchmark.name, language, scoring=benchmark.scoring)
                for gap in _gaps(score, benchmark.called) if score else ():
                    found.setdefault(gap, []).append(run.name)
    everywhere = len(settings.runs)
    return " ".join(gap if len(runs) == everywhere else f"{', '.join(runs)}: {gap}" for gap, runs in found.items())


def _gaps(score: Score, title: str) -> Iterator[str]:
    where = f"{title} in {score.language}"
    if score.incomplete:
        yield f"{where}: {score.incomplete:.0f} groups lack a rotation and count by the others."
    if score.rejected:
        yield f"{where}: {score.rejected:.0f} rows were rejected, as listed beside the predictions."
    uncounted = SCORINGS[score.scoring].uncounted
    if score.judge:
        yield f"{where}: rated by {score.judge}."
    if score.uncounted and uncounted:
        yield f"{where}: {score.uncounted:.0f} {uncounted} do not count."


def environment() -> Environment:
    """Templates in which every text is escaped and an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
