"""What a comparison of two trained runs holds fixed: equal steps, equal data, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parrot.report.settings import ReportStage
from parrot.train.record import read_metrics, read_provenance

ABOUT = 0.1  # passes that differ by less, relatively, are equal: the last step of one may be a part of a pass


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

    UserError where a run's metrics or provenance cannot be read.
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
