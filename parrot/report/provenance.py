"""What ran: the facts that training stages recorded, and what compared runs hold fixed: steps, data, or neither."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.report.settings import ReportStage
from parrot.train.record import read_metrics, read_provenance

ABSENT = "not recorded"
ABOUT = 0.1  # passes that differ by less, relatively, are equal: the last step of one may be a part of a pass


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
    digests = record.get("data_pins") or record.get("data_digests") or {}
    return ", ".join(f"{name} {digest[:12]}" for name, digest in digests.items()) or ABSENT


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


@dataclass(frozen=True)
class Exposure:
    """What stage 2 saw: optimiser steps, the samples of its data sets and how often it went over them."""

    steps: int
    samples: int
    passes: float
    data: Any

    def __str__(self) -> str:
        return f"{self.passes:.2f} passes over {self.samples:,} samples"


def held_fixed(settings: ReportStage, results: Path, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Yield a sentence for each pair of runs that trained and recorded what they saw.

    Raises:
        UserError: a run's metrics or provenance cannot be read.
    """
    trained = {run.name for run in settings.runs if not run.pretrained}
    sentences = []
    for run, other in dict.fromkeys(pairs):
        if {run, other} <= trained:
            first, second = (_exposure(results / name) for name in (run, other))
            if first and second:
                sentences.append(f"{run} and {other}: {_sentence(first, second)}.")
    return sentences


def _exposure(folder: Path) -> Exposure | None:
    record = read_provenance(folder / "provenance.json", "tune")
    steps = [line for line in read_metrics(folder / "metrics.jsonl") if line.keys() >= {"loss", "samples"}]
    samples = record.get("samples")
    if not steps or not samples:
        return None
    data = (record.get("settings") or {}).get("data")
    return Exposure(steps[-1]["step"], samples, steps[-1]["samples"] / samples, data)


def _sentence(first: Exposure, second: Exposure) -> str:
    both = f"{first} against {second.passes:.2f} over {second.samples:,}"
    equal_steps = first.steps == second.steps
    if equal_steps and (first.samples, first.data) == (second.samples, second.data):
        return f"equal steps ({first.steps}) on equal data, {first}"
    if equal_steps:
        return f"equal steps ({first.steps}), not equal data: {both}"
    steps = f"{first.steps} steps against {second.steps}"
    if abs(first.passes - second.passes) <= ABOUT * max(first.passes, second.passes):
        return f"each sample as often, not equal steps: {both}, {steps}"
    return f"neither equal steps nor each sample as often: {both}, {steps}"
