"""What `config/plan.yaml` says of GPUs and rates, what a plan is held against, and the GPUs that a plan is for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from parrot.cluster.jobs import TRAININGS, Job
from parrot.cluster.plan.devices import device_of
from parrot.config.base import Several, StrictModel, Text, validate
from parrot.config.hardware import Hardware
from parrot.config.strict_yaml import read_yaml
from parrot.errors import UserError

FILE = "plan.yaml"


class Device(StrictModel):
    """A GPU; rates in 10^12 operations a second, dense, as published."""

    name: Text
    half: float = Field(gt=0, description="peak rate in bfloat16, float16 where there is none")
    single: float = Field(gt=0, description="peak rate in float32")
    memory: float = Field(gt=0, description="GiB")
    bfloat16: bool = True

    def peak(self, precision: Literal["bf16", "fp32"]) -> float:
        """Operations a second."""
        return 1e12 * (self.half if precision == "bf16" else self.single)


class Measured(StrictModel):
    """The rate of real steps of one kind of job on one kind of device."""

    device: str
    rule: Literal["align", "tune", "predict"]
    sizes: str = Field(description="of model and batch, in words")
    parameters: float = Field(gt=0, description="of the model, all of them, in 10^9")
    rate: float = Field(gt=0, description="10^12 operations a second and GPU: needed ones, by parrot.model.flops")
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    source: str = Field(description="what printed it")


class Published(StrictModel):
    """What a published training took, both stages together."""

    run: str
    language_model: str
    device: str
    gpus: int = Field(gt=0)
    hours: float = Field(gt=0)
    source: str


class Goal(StrictModel):
    """What a run's training should take at most, both stages together."""

    run: str
    language_model: str
    device: str
    gpu_hours: float = Field(gt=0)


class Facts(StrictModel):
    """All of the file."""

    devices: dict[str, Device]
    default: str
    measured: Several[Measured] = ()
    seconds: dict[str, dict[str, float]] = Field({}, description="of a job on one core, by scale and rule")
    published: Several[Published] = ()
    goals: Several[Goal] = ()

    @model_validator(mode="after")
    def _known_devices(self) -> Facts:
        named = [self.default, *(entry.device for entry in self.measured), *(entry.device for entry in self.published)]
        named += [entry.device for entry in self.goals]
        unknown = [name for name in named if name not in self.devices]
        if unknown:
            raise ValueError(f"unknown device {unknown[0]}; devices has {', '.join(self.devices)}")
        return self

    def device(self, name: str) -> str:
        """The device that `name` means; UserError for none or more than one."""
        found = device_of(name, self.devices)
        if found is None:
            raise UserError(f"unknown GPU {name}; config/{FILE} has {', '.join(self.devices)}")
        return found

    def nearest(self, device: str, rule: str, parameters: float) -> Measured | None:
        """The rate measured on `device` for `rule` at the size nearest to so many parameters; None without any."""
        kind = "predict" if rule == "predict_stage1" else rule
        there = [entry for entry in self.measured if (entry.device, entry.rule) == (device, kind)]
        return min(there, key=lambda entry: abs(math.log(entry.parameters * 1e9 / parameters)), default=None)


def read_facts() -> Facts:
    """UserError for what does not fit."""
    path = Path("config", FILE)
    return validate(Facts, read_yaml(path), str(path))


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
        if job.rule == "predict_stage1":
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
