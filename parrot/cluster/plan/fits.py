"""Which GPU holds which training, for every way to tune the language model and to spread it over GPUs."""

from __future__ import annotations

from typing import NamedTuple

from parrot.cluster.plan.cost import Costs
from parrot.cluster.plan.facts import Facts
from parrot.cluster.plan.jobs import TRAININGS, Jobs, Training, training
from parrot.cluster.plan.memory import GIB, memory, smallest
from parrot.cluster.plan.where import Where
from parrot.config.settings import Tuning

TUNINGS: tuple[Tuning, ...] = ("full", "lora", "frozen")
# Strategy and offload.
WAYS = (
    ("ddp", "none"),
    ("zero2", "none"),
    ("zero2", "optimizer"),
    ("zero3", "none"),
    ("zero3", "optimizer"),
    ("zero3", "all"),
    ("fsdp2", "none"),
)


class Fit(NamedTuple):
    """GiB that each of so many GPUs needs for a stage, and the smallest device that has them (None: none does).

    `is_configured`: the config asks for just that, on what the plan is for.
    """

    stage: str
    tuning: Tuning | None
    gpus: int
    strategy: str
    offload: str
    micro_batch: int
    gib: float
    device: str | None
    is_configured: bool


def fits(jobs: Jobs, costs: Costs, facts: Facts, on: Where) -> list[Fit]:
    """For the largest model of each stage among the jobs, on one GPU and on those that a training takes."""
    found = []
    for of in _largest(jobs, costs):
        for gpus in dict.fromkeys((1, on.all_gpus)):
            for tuning in TUNINGS if of.stage == "tune" else (None,):
                found += [_fit(of, costs, facts, gpus, on, tuning, *way) for way in WAYS]
    return found


def _largest(jobs: Jobs, costs: Costs) -> list[Training]:
    found: dict[str, Training] = {}
    for job in jobs.steps:
        if job.rule in TRAININGS:
            of = training(jobs.suite, job)
            size = costs.shapes.parameters(of.run, of.stage).total
            if of.stage not in found or size > costs.shapes.parameters(found[of.stage].run, of.stage).total:
                found[of.stage] = of
    return list(found.values())


def _fit(
    of: Training, costs: Costs, facts: Facts, gpus: int, on: Where, tuning: Tuning | None, strategy: str, offload: str
) -> Fit:
    hardware = of.hardware.model_copy(update={"strategy": strategy, "offload": offload})
    parameters = costs.shapes.parameters(of.run, of.stage, tuning)
    needed = memory(costs.shapes.config(of.run, of.stage), parameters, of.recipe, hardware, gpus).total
    own = gpus == on.all_gpus and hardware == of.hardware and tuning in (None, of.run.config.tune.language_model)
    device = smallest(facts.devices, needed, of.recipe.precision)
    return Fit(of.stage, tuning, gpus, strategy, offload, hardware.micro_batch, needed / GIB, device, own)
