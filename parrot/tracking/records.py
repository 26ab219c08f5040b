"""MLflow parameters, curves, accuracies, tags and artefacts of each run, read from its records."""

from __future__ import annotations

from pathlib import Path

from parrot.errors import UserError
from parrot.evaluate.scores_csv import read_scores
from parrot.io.csv_tables import remade
from parrot.tracking.identity import TrackedRun, stage1_id
from parrot.tracking.store import DesiredRun, Point, segment
from parrot.tracking.training import read_training


def plan_run(run: TrackedRun, results: Path, report: Path | None) -> DesiredRun:
    """Return the MLflow run of a named run, with a child for its tuning, if any, and for each benchmark."""
    folder, identity = results / run.name, str(run.stage2.parent)
    tags = {"run": run.name, "seed": str(run.seed), "scale": run.scale}
    if run.stage1_key is None:
        record = _scored(identity, folder / "scores.csv")
    else:
        record = read_training(run.stage2, folder)
        record.tags |= tags | {"stage1_key": run.stage1_key}
    tags |= record.tags

    def planned(part: str, name: str, metrics: list[Point]) -> DesiredRun:
        return DesiredRun(identity + part, name, run.params, metrics, tags, record.data_pins, record.start, record.end)

    accuracies = _accuracies(folder / "scores.csv", run, record.end)
    headline = [point for metrics in accuracies.values() for point in _headline(metrics)]
    curve = [point for point in record.metrics if point[0] == "loss" or point[0].startswith("eval_loss_")]
    complete = planned("", run.name, headline + curve)
    complete.tags = tags | {"mlflow.note.content": _description(run, headline)}
    complete.children = [] if run.stage1_key is None else [record]
    for name, metrics in accuracies.items():
        complete.children.append(planned(f"/{name}", f"{run.name}: {run.titles.get(name, name)}", metrics))
    complete.artefacts = {"": [*record.artefacts.pop("", []), folder / "scores.csv"]}
    complete.artefacts[""] += sorted(folder.glob("predictions.html"))
    if report is not None:
        # A target's own tables do not replace the main ones.
        place = "" if report == results else f"{report.name}/"
        complete.artefacts[""] += sorted(report.glob("report.html"))
        complete.artefacts |= {f"{place}{part}": sorted((report / part).glob("*")) for part in ("tables", "figures")}
    return complete


def plan_stage1(run: TrackedRun, results: Path) -> DesiredRun | None:
    """Return the MLflow run of the stage 1 that `run` shares with others; None if it trains nothing."""
    if run.stage1_key is None:
        return None
    planned = read_training(stage1_id(run.scale, run.stage1_key), results / "align" / run.stage1_key)
    planned.tags |= {"seed": str(run.seed)}
    return planned


def _scored(identity: str, scores: Path) -> DesiredRun:
    """Return the MLflow run of a run without training, dated by its scores."""
    if not scores.is_file():
        raise UserError(f"{scores}: cannot be read: no such file")
    time = round(1000 * scores.stat().st_mtime)
    return DesiredRun(identity, "", {}, [], {}, {}, time, time)


def _accuracies(path: Path, run: TrackedRun, time: int) -> dict[str, list[Point]]:
    """Return metrics named ``{title}/{control}/{image source}/{language}`` by benchmark, as tables show them.

    For shares, accuracies by a scoring other than the benchmark's first, and four-option questions, the name of that
    number replaces the control's. Emoji sets are not pooled if there are several; ``non_english`` is the mean over the
    languages other than English.
    """
    found: dict[str, dict[tuple[str, str, str], float]] = {}
    shown: dict[str, str] = {}
    read = list(read_scores([path]))
    if not any(score.run == run.name and score.seed == run.seed for score in read):
        raise UserError(f"{path}: expected scores of {run.name} at seed {run.seed}, found none; {remade(path)}")
    scores = [score for score in read if score.run == run.name and score.split == "all"]
    image_sources = {(score.benchmark, score.image_source) for score in scores}
    for score in scores:
        first = score.scoring == shown.setdefault(score.benchmark, score.scoring)
        plain, pooled = score.control == "none", score.image_source == "all"
        if score.kind not in ("all", "four_option") or (pooled and len(_of(image_sources, score.benchmark)) > 1):
            continue
        if score.kind == "four_option":
            numbers = {score.kind: score.accuracy} if plain and first else {}
        elif first:
            shares = {"unmatched": score.unmatched, "other_language": score.other_language}
            numbers = {score.control: score.accuracy} | (shares if plain else {})
        else:
            numbers = {score.scoring: score.accuracy} if plain else {}
        known = {
            (name, score.image_source, score.language): value for name, value in numbers.items() if value is not None
        }
        found.setdefault(score.benchmark, {}).update(known)
    return {
        benchmark: [
            ("/".join(map(segment, (run.titles.get(benchmark, benchmark), *labels))), value, 0, time)
            for labels, value in numbers.items()
        ]
        for benchmark, numbers in found.items()
    }


def _of(image_sources: set[tuple[str, str]], benchmark: str) -> set[str]:
    return {image_source for name, image_source in image_sources if name == benchmark}


def _headline(metrics: list[Point]) -> list[Point]:
    """Return the accuracies without a control, with the control's name dropped, and those of four-option questions."""
    kinds = {name: name.split("/")[1] for name, *_ in metrics}
    plain = [
        (name.replace("/none/", "/", 1), value, step, time)
        for name, value, step, time in metrics
        if kinds[name] == "none"
    ]
    return plain + [point for point in metrics if kinds[point[0]] == "four_option"]


def _description(run: TrackedRun, headline: list[Point]) -> str:
    """Describe the run and its mean accuracies in Markdown, for the top of its page."""
    means = [f"- {name}: {value:.1f}" for name, value, *_ in headline if name.endswith("/non_english")]
    trained = (
        "a pretrained model of transformers, evaluated zero-shot"
        if run.stage1_key is None
        else f"stage 1 `{run.stage1_key}`"
    )
    lines = [f"Run `{run.name}` of config/runs.yaml at scale {run.scale}, seed {run.seed}; {trained}.", "", *means]
    return "\n".join(
        [*lines, "", "Accuracies in per cent; `report.html` among the artefacts has intervals and tables."]
    )
