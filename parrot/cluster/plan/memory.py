"""What a training keeps in a GPU's memory, and which GPU holds it, for every strategy and way of tuning.

Weights, gradients and optimiser states are exact for the strategy. Activations are an estimate, of the worst
micro-batch: every sample as long as the recipe's `max_length`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from parrot.cluster.jobs import TRAININGS, Job
from parrot.cluster.plan.cost import Costs
from parrot.cluster.plan.facts import Device, Facts, PlannedHardware
from parrot.cluster.plan.shapes import Parameters, Training, training
from parrot.config.hardware import TrainingHardware
from parrot.config.settings import Recipe, Tuning
from parrot.model import ParrotConfig
from parrot.model.loss import CHUNK

GIB = 1 << 30
RESERVE = 2 * GIB  # CUDA's context, workspaces of its libraries, holes between tensors
GATHERED = 500_000_000  # elements that ZeRO-2 gathers at a time, DeepSpeed's default
LIVE = 1_000_000_000  # parameters that ZeRO-3 keeps gathered, its default
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


class Bytes(NamedTuple):
    """Bytes a parameter: of any weight, and of a trained one's gradient and optimiser states."""

    weight: int
    gradient: int
    optimizer: int


class Memory(NamedTuple):
    """Bytes on one GPU."""

    weights: int
    gradients: int
    optimizer: int
    buffers: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self) + RESERVE


def bytes_per_parameter(precision: Literal["fp32", "bf16"], strategy: str) -> Bytes:
    """AdamW has two moments in float32. Beside them DeepSpeed keeps float32 weights, and bfloat16 ones to compute with;
    autocast keeps the float32 ones alone, and gradients like them."""
    if precision == "bf16" and strategy in ("zero2", "zero3"):
        return Bytes(weight=2, gradient=2, optimizer=4 + 8)
    return Bytes(weight=4, gradient=4, optimizer=8)


def memory(
    config: ParrotConfig, parameters: Parameters, recipe: Recipe, hardware: TrainingHardware, processes: int
) -> Memory:
    """What one of `processes` GPUs holds of a model with so many `parameters`."""
    each = bytes_per_parameter(recipe.precision, hardware.strategy)
    weights, gradients, optimizer = (
        parameters.total * each.weight,
        parameters.trained * each.gradient,
        parameters.trained * each.optimizer,
    )
    computing = _element(recipe)
    bucket = config.text_config.hidden_size**2  # of gradients being reduced, or of weights fetched ahead: Trainer's
    match hardware.strategy:
        case "ddp":
            # Autocast's copies of what it casts, and the gradients' once more where they are exchanged.
            buffers = 2 * parameters.trained * (recipe.precision == "bf16") + gradients * (processes > 1)
        case "zero2":
            gradients, optimizer = gradients // processes, optimizer // processes
            buffers = computing * (min(GATHERED, parameters.trained) + bucket)
        case "zero3":
            weights, gradients, optimizer = weights // processes, gradients // processes, optimizer // processes
            buffers = computing * (min(LIVE, parameters.total) + 2 * bucket)
        case "fsdp2":
            weights, gradients, optimizer = weights // processes, gradients // processes, optimizer // processes
            buffers = computing * 2 * parameters.largest
    if hardware.offload != "none":
        gradients, optimizer = 0, 0
    if hardware.offload == "all":
        weights = 0
    kept = kept_activations(config, recipe, hardware.micro_batch)
    passing = passing_activations(config, recipe, hardware.micro_batch)
    return Memory(weights, gradients, optimizer, buffers, kept + passing)


def kept_activations(config: ParrotConfig, recipe: Recipe, micro_batch: int) -> int:
    """Bytes that a micro-batch's forward pass keeps for the backward pass.

    A layer keeps about 12 vectors of its width and 4 of its inner width a token; with gradient checkpointing its input
    alone. The experts keep 5 vectors of all their inner widths a visual token, the head the logits.
    """
    text, element = config.text_config, _element(recipe)
    layer = text.hidden_size if recipe.gradient_checkpointing else _layer(config)
    language = micro_batch * recipe.max_length * text.num_hidden_layers * layer
    experts = 5 * config.num_experts * config.expert_intermediate_size
    visual = micro_batch * config.num_image_tokens * (experts + 4 * text.hidden_size)
    supervised = micro_batch * max(recipe.max_length - config.num_image_tokens, 1)
    return element * (language + visual + supervised * text.vocab_size)


def passing_activations(config: ParrotConfig, recipe: Recipe, micro_batch: int) -> int:
    """Bytes that come on top while the backward pass is in the widest layer, computed again or not, and in the loss."""
    layer = 2 * config.text_config.intermediate_size + _layer(config) * recipe.gradient_checkpointing
    return _element(recipe) * micro_batch * recipe.max_length * layer + 2 * 4 * CHUNK


def _layer(config: ParrotConfig) -> int:
    return 12 * config.text_config.hidden_size + 4 * config.text_config.intermediate_size


def _element(recipe: Recipe) -> int:
    return 2 if recipe.precision == "bf16" else 4


def smallest(devices: Mapping[str, Device], needed: int, precision: Literal["fp32", "bf16"]) -> str | None:
    """The device with the least memory that holds so many bytes and knows the precision; None where none does."""
    holding = [
        name
        for name, device in devices.items()
        if device.memory * GIB >= needed and (device.bfloat16 or precision == "fp32")
    ]
    return min(holding, key=lambda name: devices[name].memory, default=None)


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


def fits(jobs: Iterable[Job], costs: Costs, facts: Facts, on: PlannedHardware) -> list[Fit]:
    """For the largest model of each stage among the jobs, on one GPU and on those that a training takes."""
    found = []
    for of in _largest(jobs, costs):
        for gpus in dict.fromkeys((1, on.all_gpus)):
            for tuning in TUNINGS if of.stage == "tune" else (None,):
                found += [_fit(of, costs, facts, gpus, on, tuning, *way) for way in WAYS]
    return found


def _largest(jobs: Iterable[Job], costs: Costs) -> list[Training]:
    found: dict[str, Training] = {}
    for job in jobs:
        if job.rule in TRAININGS:
            of = training(costs.suite, job)
            size = costs.shapes.parameters(of.run, of.stage).total
            if of.stage not in found or size > costs.shapes.parameters(found[of.stage].run, of.stage).total:
                found[of.stage] = of
    return list(found.values())


def _fit(
    of: Training,
    costs: Costs,
    facts: Facts,
    gpus: int,
    on: PlannedHardware,
    tuning: Tuning | None,
    strategy: str,
    offload: str,
) -> Fit:
    hardware = of.hardware.model_copy(update={"strategy": strategy, "offload": offload})
    parameters = costs.shapes.parameters(of.run, of.stage, tuning)
    needed = memory(costs.shapes.config(of.run, of.stage), parameters, of.recipe, hardware, gpus).total
    own = gpus == on.all_gpus and hardware == of.hardware and tuning in (None, of.run.config.tune.language_model)
    device = smallest(facts.devices, needed, of.recipe.precision)
    return Fit(of.stage, tuning, gpus, strategy, offload, hardware.micro_batch, needed / GIB, device, own)
