"""What MLflow is told: each run's parameters, curves, accuracies, tags and artefacts, read from its records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parrot.config import ConfigError, Strict
from parrot.digest import key
from parrot.report.records import read_metrics, read_provenance
from parrot.report.scores import read_scores
from parrot.runs import Run

RECORDS = ("provenance.json", "metrics.jsonl")
# Fields of provenance.json that become tags, and those that become metrics under "system/".
DESCRIBED = (
    "git_commit", "git_dirty", "python", "attention", "image_processor", "device", "processes", "slurm_job_id",
    "projector_sha256",
)  # fmt: skip
COSTS = ("wall_seconds", "peak_rss_mib")

Point = tuple[str, float, int, int]
"""A metric's key, value, step and time in milliseconds."""


class TrackedRun(Strict):
    """What MLflow is told of a run besides its records."""

    name: str
    scale: str
    seed: int
    stage1_key: str | None  # None: the run asks a model as it is, and left no records of training
    params: dict[str, str]
    stage1_params: dict[str, str]


def tracked_run(run: Run) -> TrackedRun:
    """The settings of `run` that are worth comparing, as MLflow parameters with dotted names."""
    config = run.config.model_dump(mode="json")
    read = {section: config[section] for section in ("model", "align", "tune", "evaluate")}
    read["data"] = {"languages": config["data"]["languages"]}
    if run.asked is not None:
        asked = {name: config["model"][name] for name in ("hf", "revision")}
        read = {"model": asked, "evaluate": config["evaluate"]}
    return TrackedRun(
        name=run.name,
        scale=run.config.scale,
        seed=run.config.seed,
        stage1_key=run.stage1_key,
        params=_flat(read),
        stage1_params=_flat({"align": {**config["align"], "data": config["data"]["align"]}}),
    )


@dataclass
class Planned:
    """An MLflow run as it should be."""

    id: str
    name: str
    params: dict[str, str]
    metrics: list[Point]
    tags: dict[str, str]
    data_pins: dict[str, str]
    start: int
    end: int
    artefacts: dict[str, list[Path]] = field(default_factory=dict)  # by folder in the run
    children: list[Planned] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of everything but the artefacts and the children."""
        return key([self.name, self.params, self.metrics, self.tags, self.data_pins])


def plan_run(run: TrackedRun, results: Path, report: Path | None) -> Planned:
    """The MLflow run of a named run, with a child for its tuning, if any, and for each benchmark."""
    folder, identity = results / run.name, f"{run.scale}/{run.name}/seed{run.seed}"
    record = _scored(folder / "scores.csv") if run.stage1_key is None else _trained(folder)
    tags = {"run": run.name, "seed": str(run.seed), "scale": run.scale} | record.tags
    tags |= {} if run.stage1_key is None else {"stage1_key": run.stage1_key}

    def planned(part: str, name: str, metrics: list[Point]) -> Planned:
        return Planned(identity + part, name, run.params, metrics, tags, record.data_pins, record.start, record.end)

    accuracies = _accuracies(folder / "scores.csv", run, record.end)
    whole = planned("", run.name, [point for metrics in accuracies.values() for point in _headline(metrics)])
    whole.children = [planned("/tune", f"{run.name}: tune", record.metrics)] if record.files else []
    whole.children += [planned(f"/{name}", f"{run.name}: {name}", metrics) for name, metrics in accuracies.items()]
    whole.artefacts = {"": [*record.files, folder / "scores.csv"]}
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
    folder = results / "align" / run.stage1_key
    record = _trained(folder)
    tags = {"run": "align", "seed": str(run.seed), "scale": run.scale, "stage1_key": run.stage1_key} | record.tags
    return Planned(
        id=f"{run.scale}/align/{run.stage1_key}",
        name=f"align {run.stage1_key}",
        params=run.stage1_params,
        metrics=record.metrics,
        tags=tags,
        data_pins=record.data_pins,
        start=record.start,
        end=record.end,
        artefacts={"": record.files},
    )


@dataclass
class _Record:
    """What is known of when and how something ran.

    Metrics carry the record's own times, without which a second import would double every point.
    """

    start: int
    end: int
    files: list[Path] = field(default_factory=list)
    data_pins: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Point] = field(default_factory=list)


def _trained(folder: Path) -> _Record:
    """What a training stage left in its folder."""
    provenance = read_provenance(folder / "provenance.json")
    records = read_metrics(folder / "metrics.jsonl")
    times = [round(1000 * float(record.get("time", 0))) for record in records] or [0]
    end = max(times)
    data_pins: dict[str, str] = provenance.get("data_pins") or {}
    tags = {name: str(provenance[name]) for name in DESCRIBED if provenance.get(name) is not None}
    if "git_commit" in tags:
        tags["mlflow.source.git.commit"] = tags.pop("git_commit")
    tags |= {f"data_pin {name}": md5 for name, md5 in data_pins.items()}
    metrics: list[Point] = [
        (name, float(value), int(record["step"]), time)
        for record, time in zip(records, times, strict=False)
        for name, value in record.items()
        if name not in ("step", "time")
    ]
    costs = [name for name in COSTS if provenance.get(name) is not None]
    metrics += [(f"system/{name}", float(provenance[name]), 0, end) for name in costs]
    return _Record(min(times), end, [folder / file for file in RECORDS], data_pins, tags, metrics)


def _scored(scores: Path) -> _Record:
    """A run without training is dated by its scores."""
    if not scores.is_file():
        raise ConfigError(f"{scores}: cannot be read: no such file")
    time = round(1000 * scores.stat().st_mtime)
    return _Record(time, time)


def _accuracies(path: Path, run: TrackedRun, time: int) -> dict[str, list[Point]]:
    """By benchmark, metrics named ``{benchmark}/{control}/{house}/{language}``.

    Shares, and accuracies by another scoring than the benchmark's first one, stand in the control's place.
    """
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
                metrics.append((f"{score.benchmark}/{name}/{score.house}/{score.language}", value, 0, time))
    return found


def _headline(metrics: list[Point]) -> list[Point]:
    """A benchmark's accuracies proper, named ``{benchmark}/{house}/{language}`` without the control."""
    return [(name.replace("/none/", "/"), value, step, time) for name, value, step, time in metrics if "/none/" in name]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return {prefix.removesuffix("."): text}
