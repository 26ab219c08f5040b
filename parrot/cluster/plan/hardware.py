"""The GPUs that a plan is for."""

from __future__ import annotations

from typing import NamedTuple

from parrot.cluster.jobs import TRAININGS, Job
from parrot.cluster.plan.facts import Facts
from parrot.config.hardware import Hardware


class PlannedHardware(NamedTuple):
    """What the jobs run on: a device of config/plan.yaml, nodes and GPUs a node of a training, jobs at a time."""

    device: str
    nodes: int
    gpus: int
    at_a_time: int

    @property
    def all_gpus(self) -> int:
        """GPUs of a training."""
        return self.nodes * self.gpus

    @property
    def alone(self) -> str:
        """Where a wall-clock is that of a training's GPUs and no others."""
        return f"{self.all_gpus} GPU{'s' * (self.all_gpus > 1)} alone"

    def gpus_of(self, job: Job) -> int:
        """GPUs that one job takes, as the rules say."""
        if job.rule == "predict_before":
            return 1
        return self.all_gpus if job.rule in TRAININGS else self.gpus


def planned_hardware(
    hardware: Hardware,
    facts: Facts,
    gpu: str | None = None,
    nodes: int | None = None,
    gpus: int | None = None,
    at_a_time: int = 1,
) -> PlannedHardware | None:
    """The config's hardware, or what is given in its place; None where there are no GPUs at all."""
    number = gpus or hardware.gpus * (hardware.device == "cuda") or int(gpu is not None)
    if not number:
        return None
    name = gpu or hardware.gpu_model or facts.default
    return PlannedHardware(facts.device(name), nodes or hardware.nodes, number, at_a_time)
