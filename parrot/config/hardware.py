"""What jobs run on. None of it decides whether a job is out of date: other hardware gives the same results, rounded."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from parrot.config.base import StrictModel
from parrot.errors import UserError

GPU_MODEL = re.compile(r"[a-zA-Z0-9_.]+")  # Snakemake's plugin for Slurm refuses others, when it submits a job


class TrainingHardware(StrictModel):
    """How one stage's training is distributed over its processes, one a GPU."""

    micro_batch: int = Field(
        gt=0,
        le=1 << 16,
        description="samples a process takes at once; times processes and accumulation: the global batch",
    )
    strategy: Literal["ddp", "zero2", "zero3", "fsdp2"] = Field(
        "ddp",
        description="ddp: every process holds everything; zero2: DeepSpeed, gradients and optimiser states are split; "
        "zero3, fsdp2: weights too, by DeepSpeed or by PyTorch",
    )
    offload: Literal["none", "optimizer", "all"] = Field(
        "none", description="what DeepSpeed keeps in main memory: optimiser states, or (zero3) weights too"
    )
    attention: Literal["sdpa", "flash_attention_2", "flex_attention", "eager"] = "sdpa"
    compile: bool = Field(False, description="torch.compile of the language model's layers")
    features: Literal["compute", "disk"] = Field(
        "compute",
        description="compute: the frozen vision encoder runs in every step; disk: it runs once per image, before "
        "training, and its features are kept in the work folder for all runs that need the same",
    )
    workers: int | None = Field(
        None, ge=0, le=1024, description="processes that load a GPU's images; none: by the number of cores"
    )

    @model_validator(mode="after")
    def _can_offload(self) -> TrainingHardware:
        allowed = {"none": ("ddp", "zero2", "zero3", "fsdp2"), "optimizer": ("zero2", "zero3"), "all": ("zero3",)}
        if self.strategy not in allowed[self.offload]:
            wanted = " or ".join(allowed[self.offload])
            raise ValueError(f"offload: {self.offload} needs strategy {wanted}, found {self.strategy}")
        return self


class Hardware(StrictModel):
    """The jobs' resources."""

    device: Literal["cuda", "cpu"] = Field(
        "cuda",
        description="what `gpus` counts; cpu: processes on cores in their place, to try a cluster",
    )
    nodes: int = Field(1, gt=0, le=10_000, description="nodes of a training job")
    gpus: int = Field(
        0, ge=0, le=1024, description="GPUs of a node, all of which a job takes; 0: one process, on what there is"
    )
    gpu_model: str | None = Field(None, description="as Slurm names it, e.g. h100, without hyphens; none: any")
    threads: int = Field(1, gt=0, le=4096, description="processor cores of a job on one node")
    predict_batch: int = Field(gt=0, le=1 << 16, description="questions at once")
    align: TrainingHardware
    tune: TrainingHardware

    @field_validator("gpu_model")
    @classmethod
    def _can_be_submitted(cls, name: str | None) -> str | None:
        if name is not None and not GPU_MODEL.fullmatch(name):
            instead = "leave it out and name a feature of the nodes, `constraint` in the profile"
            raise ValueError(f"expected letters, digits, _ and . alone, found {name!r}; {instead}")
        return name

    @property
    def processes(self) -> int:
        """Processes of a training job."""
        return self.nodes * max(self.gpus, 1)


def accumulation_steps(global_batch: int, micro_batch: int, processes: int) -> int:
    """Micro-batches that a process accumulates for one optimiser step.

    Raises:
        UserError: `micro_batch` x `processes` does not divide the global batch; the message names the nearest micro-
            batches, or numbers of processes, that would.
    """
    if global_batch % (micro_batch * processes) == 0:
        return global_batch // (micro_batch * processes)
    if global_batch % processes:
        raise UserError(
            f"global_batch {global_batch} cannot be split over {processes} processes; "
            f"the nearest numbers that divide it: {_nearest(global_batch, processes)}"
        )
    raise UserError(
        f"micro_batch: {micro_batch} x {processes} processes does not divide global_batch {global_batch}; "
        f"the nearest that do: {_nearest(global_batch // processes, micro_batch)}"
    )


def _nearest(number: int, wanted: int) -> str:
    """Return the divisors of `number` next to `wanted`."""
    allowed = [size for size in range(1, number + 1) if number % size == 0]
    below = max((size for size in allowed if size < wanted), default=None)
    above = min((size for size in allowed if size > wanted), default=None)
    return " and ".join(str(size) for size in (below, above) if size)
