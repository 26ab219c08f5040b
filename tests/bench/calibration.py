"""What the benchmark of training tells config/plan.yaml."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path

import yaml

from parrot.cluster.plan.devices import device_of
from tests.bench.settings import CONFIGURED, Job, Setting
from tests.bench.steps import Result

PLAN = Path(__file__).resolve().parents[2] / "config/plan.yaml"


def entry(job: Job, results: Mapping[Setting, Result], gpu: str) -> list[str]:
    """A job's entry of `measured` on the GPU of that name, as lines of YAML: the rate of the settings that will run.

    Where they were not measured, or the GPU is none of the file's devices, a comment that says so.
    """
    setting = CONFIGURED[job.rule]
    device = device_of(gpu, yaml.safe_load(PLAN.read_text(encoding="utf-8"))["devices"])
    if device is None:
        return [f"  # {job.title}: {gpu} is none of the devices above"]
    if setting not in results:
        return [f"  # {job.title}: the settings {setting.name} has them did not run"]
    result = results[setting]
    return [
        f"  - device: {device}",
        f"    rule: {job.rule}",
        f"    sizes: {job.title}, micro-batch {setting.micro.size}, {setting.name} but on one GPU, without DeepSpeed",
        f"    parameters: {result.parameters / 1e9:.4g}",
        f"    rate: {result.operations / 1e12:.4g}",
        f'    date: "{datetime.date.today()}"',
        "    source: tests/bench/training.py --gpu",
    ]
