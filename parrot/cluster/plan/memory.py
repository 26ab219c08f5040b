"""The GPU memory of a training, and the smallest sufficient GPU, for every strategy and tuning method.

Weights, gradients and optimiser states are exact for the strategy. Activations are estimated for the worst
micro-batch: every sample is as long as the recipe's `max_length`.
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
RESERVE = 2 * GIB  # CUDA's context, workspaces of its libraries, fragmentation
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
    """Bytes per parameter: of every weight, and of a trained weight's gradient and optimiser states."""

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
        """Bytes of all kinds, with a reserve."""
        return sum(self) + RESERVE


def bytes_per_parameter(precision: Literal["fp32", "bf16"], strategy: str) -> Bytes:
    """Return the bytes per parameter for AdamW, which has two moments in float32.

    In bfloat16 DeepSpeed keeps float32 weights besides the bfloat16 ones; autocast keeps float32 weights and gradients
    only.
    """
    if precision == "bf16" and strategy in ("zero2", "zero3"):
        return Bytes(weight=2, gradient=2, optimizer=4 + 8)
    return Bytes(weight=4, gradient=4, optimizer=8)


def memory(
    config: ParrotConfig, parameters: Parameters, recipe: Recipe, hardware: TrainingHardware, processes: int
) -> Memory:
    """Return the memory on one of `processes` GPUs for a model with `parameters`."""
    each = bytes_per_parameter(recipe.precision, hardware.strategy)
    weights, gradients, optimizer = (
        parameters.total * each.weight,
        parameters.trained * each.gradient,
        parameters.trained * each.optimizer,
    )
    computing = _element(recipe)
    bucket = (
        config.text_config.hidden_size**2
    )  # elements of reduced gradients or prefetched weights, as Trainer sets it
    match hardware.strategy:
        case "ddp":
            # Autocast's casted copies, and a second copy of the gradients in their exchange.
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
    """Return the bytes that a micro-batch's forward pass keeps for the backward pass.

    A layer keeps about 12 vectors of hidden size and 4 of intermediate size per token; with gradient checkpointing only
    its input. The experts keep 5 vectors of all their intermediate sizes per visual token, the head the logits.
    """
    text, element = config.text_config, _element(recipe)
    layer = text.hidden_size if recipe.gradient_checkpointing else _layer(config)
    language = micro_batch * recipe.max_length * text.num_hidden_layers * layer
    experts = 5 * config.num_experts * config.expert_intermediate_size
    visual = micro_batch * config.num_image_tokens * (experts + 4 * text.hidden_size)
    supervised = micro_batch * max(recipe.max_length - config.num_image_tokens, 1)
    return element * (language + visual + supervised * text.vocab_size)


def passing_activations(config: ParrotConfig, recipe: Recipe, micro_batch: int) -> int:
    """Return the additional bytes of the backward pass in the widest layer, recomputed or not, and of the loss."""
    layer = 2 * config.text_config.intermediate_size + _layer(config) * recipe.gradient_checkpointing
    return _element(recipe) * micro_batch * recipe.max_length * layer + 2 * 4 * CHUNK


def _layer(config: ParrotConfig) -> int:
    return 12 * config.text_config.hidden_size + 4 * config.text_config.intermediate_size


def _element(recipe: Recipe) -> int:
    return 2 if recipe.precision == "bf16" else 4


def smallest(devices: Mapping[str, Device], needed: int, precision: Literal["fp32", "bf16"]) -> str | None:
    """Return the device with the least memory that holds `needed` bytes and supports the precision, or None."""
    holding = [
        name
        for name, device in devices.items()
        if device.memory * GIB >= needed and (device.bfloat16 or precision == "fp32")
    ]
    return min(holding, key=lambda name: devices[name].memory, default=None)


class Fit(NamedTuple):
    """The GiB per GPU that a stage needs, and the smallest device with so much memory (None: no device).

    `is_configured`: this is the config's own setting, on the plan's hardware.
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
    """Return the fits of each stage's largest model among the jobs, on one GPU and on a training's GPUs."""
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
