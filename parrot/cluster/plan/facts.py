"""`config/plan.yaml` (GPUs, measured rates, published times and goals), and the hardware of a plan."""

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
    """A GPU; published dense rates in 10^12 operations per second."""

    name: Text
    half: float = Field(gt=0, description="peak rate in bfloat16, or float16 without bfloat16 support")
    single: float = Field(gt=0, description="peak rate in float32")
    memory: float = Field(gt=0, description="GiB")
    bfloat16: bool = True

    def peak(self, precision: Literal["bf16", "fp32"]) -> float:
        """Return the peak rate in operations per second."""
        return 1e12 * (self.half if precision == "bf16" else self.single)


class Measured(StrictModel):
    """The measured rate of one kind of job on one kind of device."""

    device: str
    rule: Literal["align", "tune", "predict"]
    sizes: str = Field(description="of model and batch, as text")
    parameters: float = Field(gt=0, description="all parameters of the model, in 10^9")
    rate: float = Field(gt=0, description="10^12 needed operations (parrot.model.flops) per second and GPU")
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    source: str = Field(description="the program that printed it")


class Published(StrictModel):
    """The published time of a training, both stages together."""

    run: str
    language_model: str
    device: str
    gpus: int = Field(gt=0)
    hours: float = Field(gt=0)
    source: str


class Goal(StrictModel):
    """The maximum GPU-hours that a run's training should take, both stages together."""

    run: str
    language_model: str
    device: str
    gpu_hours: float = Field(gt=0)


class Facts(StrictModel):
    """The complete file."""

    devices: dict[str, Device]
    default: str
    measured: Several[Measured] = ()
    seconds: dict[str, dict[str, float]] = Field({}, description="seconds per job on one core, by scale and rule")
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
        """Return the device called `name`.

        Raises:
            UserError: no or several devices match.
        """
        found = device_of(name, self.devices)
        if found is None:
            raise UserError(f"unknown GPU {name}; config/{FILE} has {', '.join(self.devices)}")
        return found

    def nearest(self, device: str, rule: str, parameters: float) -> Measured | None:
        """Return the rate measured on `device` for `rule` at the nearest model size; None without measurements."""
        kind = "predict" if rule == "predict_stage1" else rule
        there = [entry for entry in self.measured if (entry.device, entry.rule) == (device, kind)]
        return min(there, key=lambda entry: abs(math.log(entry.parameters * 1e9 / parameters)), default=None)


def read_facts() -> Facts:
    """Return the content of `config/plan.yaml`.

    Raises:
        UserError: the file is malformed.
    """
    path = Path("config", FILE)
    return validate(Facts, read_yaml(path), str(path))


class PlannedHardware(NamedTuple):
    """The hardware of a plan: a device of config/plan.yaml, nodes per training, GPUs per node, concurrent jobs."""

    device: str
    nodes: int
    gpus: int
    at_a_time: int

    @property
    def all_gpus(self) -> int:
        """GPUs per training."""
        return self.nodes * self.gpus

    @property
    def alone(self) -> str:
        """The label of a wall-clock time on the GPUs of one training."""
        return f"{self.all_gpus} GPU{'s' * (self.all_gpus > 1)} alone"

    def gpus_of(self, job: Job) -> int:
        """Return the GPUs that one job takes, as in the rules."""
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
    """Return the config's hardware with the given overrides; None without GPUs."""
    number = gpus or hardware.gpus * (hardware.device == "cuda") or int(gpu is not None)
    if not number:
        return None
    name = gpu or hardware.gpu_model or facts.default
    return PlannedHardware(facts.device(name), nodes or hardware.nodes, number, at_a_time)
