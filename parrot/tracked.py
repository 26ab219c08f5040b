"""What MLflow is told: each run's parameters, curves, accuracies, tags and artefacts, read from its records."""

from __future__ import annotations

from pathlib import Path

from parrot.config import ConfigError, Strict
from parrot.runs import Run
from parrot.store import Planned, Point, segment
from parrot.tracked_training import flat, read_training


class TrackedRun(Strict):
    """What MLflow is told of a run besides its records."""

    name: str
    scale: str
    seed: int
    stage1_key: str | None  # None: the run asks a model as it is, and left no records of training
    params: dict[str, str]
    titles: dict[str, str] = {}  # benchmarks as readers see them, by their name in scores


def tracked_run(run: Run) -> TrackedRun:
    """The settings of `run` that are worth comparing, as MLflow parameters with dotted names."""
    config = run.config.model_dump(mode="json")
    read = {section: config[section] for section in ("model", "align", "tune", "evaluate")}
    read["data"] = {"languages": config["data"]["languages"]}
    if run.pretrained_model is not None:
        asked = {name: config["model"][name] for name in ("hf", "revision")}
        read = {"model": asked, "evaluate": config["evaluate"]}
    return TrackedRun(
        name=run.name,
        scale=run.config.scale,
        seed=run.config.seed,
        stage1_key=run.stage1_key,
        params=flat(read),
        titles={benchmark.name: benchmark.called for benchmark in run.shown_benchmarks},
    )


def plan_run(run: TrackedRun, results: Path, report: Path | None) -> Planned:
    """The MLflow run of a named run, with a child for its tuning, if any, and for each benchmark."""
    folder, identity = results / run.name, f"{run.scale}/{run.name}/seed{run.seed}"
    tags = {"run": run.name, "seed": str(run.seed), "scale": run.scale}
    if run.stage1_key is None:
        record = _scored(identity, folder / "scores.csv")
    else:
        record = read_training(f"{identity}/tune", folder)
        record.tags |= tags | {"stage1_key": run.stage1_key}
    tags |= record.tags

    def planned(part: str, name: str, metrics: list[Point]) -> Planned:
        return Planned(identity + part, name, run.params, metrics, tags, record.data_pins, record.start, record.end)

    accuracies = _accuracies(folder / "scores.csv", run, record.end)
    whole = planned("", run.name, [point for metrics in accuracies.values() for point in _headline(metrics)])
    whole.children = [] if run.stage1_key is None else [record]
    for name, metrics in accuracies.items():
        whole.children.append(planned(f"/{name}", f"{run.name}: {run.titles.get(name, name)}", metrics))
    whole.artefacts = {"": [*record.artefacts.pop("", []), folder / "scores.csv"]}
    whole.artefacts[""] += sorted(folder.glob("predictions.html"))
    if report is not None:
        # A target's own tables do not take the place of the main ones.
        place = "" if report == results else f"{report.name}/"
        whole.artefacts[""] += sorted(report.glob("report.html"))
        whole.artefacts |= {f"{place}{part}": sorted((report / part).glob("*")) for part in ("tables", "figures")}
    return whole


def plan_stage1(run: TrackedRun, results: Path) -> Planned | None:
    """The MLflow run of the stage 1 that `run` shares with others; None where it trains nothing."""
    if run.stage1_key is None:
        return None
    planned = read_training(f"{run.scale}/align/{run.stage1_key}", results / "align" / run.stage1_key)
    planned.tags |= {"seed": str(run.seed)}
    return planned


def _scored(identity: str, scores: Path) -> Planned:
    """A run without training is dated by its scores."""
    if not scores.is_file():
        raise ConfigError(f"{scores}: cannot be read: no such file")
    time = round(1000 * scores.stat().st_mtime)
    return Planned(identity, "", {}, [], {}, {}, time, time)


def _accuracies(path: Path, run: TrackedRun, time: int) -> dict[str, list[Point]]:
    """By benchmark, metrics named ``{benchmark}/{control}/{house}/{language}``.

    Shares, and accuracies by another scoring than the benchmark's first one, stand in the control's place.
    """
    # Brings scipy along, and every start of Snakemake reads this module.
    from parrot.report.scores import read_scores

    found: dict[str, list[Point]] = {}
    shown: dict[str, str] = {}
    for score in read_scores([path]):
        if score.run != run.name or score.kind != "all" or score.split != "all":
            continue
        plain = score.control == "none"
        if score.scoring == shown.setdefault(score.benchmark, score.scoring):
            shares = {"unmatched": score.unmatched, "other_language": score.other_language}
            numbers = {score.control: score.accuracy} | (shares if plain else {})
        else:
            numbers = {score.scoring: score.accuracy} if plain else {}
        metrics = found.setdefault(score.benchmark, [])
        for name, value in numbers.items():
            if value is not None:
                parts = (score.benchmark, name, score.house, score.language)
                metrics.append(("/".join(map(segment, parts)), value, 0, time))
    return found


def _headline(metrics: list[Point]) -> list[Point]:
    """A benchmark's accuracies proper, named ``{benchmark}/{house}/{language}`` without the control."""
    return [(name.replace("/none/", "/"), value, step, time) for name, value, step, time in metrics if "/none/" in name]
