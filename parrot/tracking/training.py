"""MLflow parameters, tags and points of one training, read from its record.

The record is a folder with ``provenance.json``, ``metrics.jsonl`` and a ``system-{node}.jsonl`` for every node. During
training it lies next to the checkpoints, afterwards in the stage's output, in the same format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parrot.errors import UserError
from parrot.tracking.identity import TrainingId, as_text, parameters
from parrot.tracking.store import DesiredRun, Point, milliseconds, points, segment
from parrot.train.record import read_metrics, read_provenance, trained_again

# Fields of provenance.json that become tags, and those that become metrics under "system/".
DESCRIBED = (
    "seed", "git_commit", "git_dirty", "python", "attention", "image_processor", "device", "gpus", "nodes", "processes",
    "slurm_job_id", "slurm_nodes", "projector_sha256",
)  # fmt: skip
COSTS = ("wall_seconds", "peak_rss_mib")
ARCHITECTURE = ("projector", "vision_feature_layer", "vision_feature_select")
BACKBONES = ("vision_tower", "language_model")


def read_training(identity: TrainingId, folder: Path) -> DesiredRun:
    """Return the MLflow run of a finished training.

    Raises:
        UserError: a record is missing or malformed.
    """
    stage1 = identity.stage1_key is not None
    provenance = read_provenance(folder / "provenance.json", "align" if stage1 else "tune")
    rows = read_metrics(folder / "metrics.jsonl")
    times = [milliseconds(row) for row in rows] or [0]
    costs = {name: provenance[name] for name in COSTS if provenance.get(name) is not None}
    metrics = points(rows) + points([{"step": 0, "time": max(times) / 1000, **costs}], "system/")
    systems = sorted(folder.glob("system-*.jsonl"))
    for path in systems:
        metrics += points(read_metrics(path), system_prefix(path))
    try:
        planned = plan_training(identity, provenance, metrics, min(times))
    except (KeyError, TypeError, AttributeError):
        path = folder / "provenance.json"
        raise UserError(f"{path}: settings: expected a training stage's; {trained_again(path)}") from None
    planned.end = max(times)
    planned.artefacts = {"": [folder / "provenance.json", folder / "metrics.jsonl", *systems]}
    return planned


def plan_training(identity: TrainingId, provenance: Mapping[str, Any], metrics: list[Point], start: int) -> DesiredRun:
    """Return the MLflow run of a training that started at `start` (milliseconds) and has recorded `metrics` so far."""
    key = identity.stage1_key
    data_pins: dict[str, str] = provenance.get("data_pins") or {}
    described = {name: as_text(provenance[name]) for name in DESCRIBED if provenance.get(name) is not None}
    if "git_commit" in described:
        described["mlflow.source.git.commit"] = described.pop("git_commit")
    return DesiredRun(
        id=str(identity),
        name=f"align {key}" if key is not None else f"{identity.run}: tune",
        params=_params(provenance),
        metrics=metrics,
        tags={"run": identity.run, "scale": identity.scale}
        | ({"stage1_key": key} if key is not None else {})
        | described
        | {f"data_pin {'/'.join(map(segment, name.split('/')))}": md5 for name, md5 in data_pins.items()},
        data_pins=data_pins,
        start=start,
        end=start,
    )


def system_prefix(path: Path) -> str:
    """Return ``system/{node}/`` for a node's file, the prefix that MLflow's tab of system metrics shows."""
    return f"system/{path.stem.removeprefix('system-')}/"


def _params(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the compared settings; a resumed training has the same, since checkpoints are keyed by all settings."""
    settings = provenance.get("settings")
    if settings is None:
        return {}
    model = {name: settings[name] for name in ARCHITECTURE} | {name: settings[name]["path"] for name in BACKBONES}
    data = {
        "files": [entry["file"] for entry in settings["data"]],
        "languages": list(dict.fromkeys(entry["language"] for entry in settings["data"])),
    }
    return parameters(
        {provenance["stage"]: settings["recipe"], "model": model | settings.get("experts", {}), "data": data}
    )
