"""What ran: the facts that the training stages recorded, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from parrot.report.settings import ReportStage
from parrot.train.record import read_metrics, read_provenance

ABSENT = "not recorded"


def what_ran(settings: ReportStage, results: Path) -> dict[str, Any]:
    """Return a table of facts: ``columns`` names the trained stages, ``rows`` maps each fact to one text per stage."""
    keys = dict.fromkeys(run.stage1_key for run in settings.runs)
    folders = {f"stage 1 ({key})": results / "align" / key for key in keys if key is not None}
    records = {name: read_provenance(folder / "provenance.json", "align") for name, folder in folders.items()}
    for run in settings.runs:
        if not run.pretrained:
            name, folder = f"stage 2 of {run.name}", results / run.name
            folders[name], records[name] = folder, read_provenance(folder / "provenance.json", "tune", run.seed)
    curves = {name: _curve(folder / "metrics.jsonl") for name, folder in folders.items()}
    rows = {fact: [tell(record) for record in records.values()] for fact, tell in FACTS.items()}
    rows["optimiser steps"] = [steps for steps, _ in curves.values()]
    rows["last training loss"] = [loss for _, loss in curves.values()]
    return {"columns": list(folders), "rows": rows}


def _curve(path: Path) -> tuple[str, str]:
    steps = [record for record in read_metrics(path) if "loss" in record]
    return (str(steps[-1]["step"]), f"{steps[-1]['loss']:.3f}") if steps else (ABSENT, ABSENT)


def _text(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda record: ABSENT if record.get(name) is None else str(record[name])


def _commit(record: dict[str, Any]) -> str:
    commit = record.get("git_commit")
    if not commit:
        return ABSENT
    return commit[:12] + (" with local changes" if record.get("git_dirty") else "")


def _pins(record: dict[str, Any]) -> str:
    return ", ".join(f"{name} {md5[:12]}" for name, md5 in (record.get("data_pins") or {}).items()) or ABSENT


def _packages(record: dict[str, Any]) -> str:
    return ", ".join(f"{name} {found}" for name, found in (record.get("packages") or {}).items()) or ABSENT


def _duration(record: dict[str, Any]) -> str:
    seconds = record.get("wall_seconds")
    return ABSENT if seconds is None else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def _memory(record: dict[str, Any]) -> str:
    found = record.get("peak_rss_mib")
    return ABSENT if found is None else f"{found:.0f} MiB"


FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "git commit": _commit,
    "seed": _text("seed"),
    "data pin": _pins,
    "training samples": _text("samples"),
    "trained parameters": _text("trained_parameters"),
    "wall time": _duration,
    "peak memory": _memory,
    "device": _text("device"),
    "processes": _text("processes"),
    "attention": _text("attention"),
    "image processor": _text("image_processor"),
    "Python": _text("python"),
    "packages": _packages,
}
