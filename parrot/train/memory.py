"""After a training ran out of GPU memory, the next attempt takes half the micro-batch and twice the accumulation."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from parrot.config.hardware import TrainingHardware
from parrot.errors import UserError
from parrot.io.digests import read_record, write_record

FILE = "out_of_memory.json"  # beside the checkpoints


def reduced_micro_batch(folder: Path, hardware: TrainingHardware, processes: int, stage: str) -> TrainingHardware:
    """`hardware`, with the micro-batch that an attempt on the same hardware left in `folder`, where one did."""
    path = folder / FILE
    left = read_record(path, f"micro_batch {hardware.micro_batch} is tried again") or {}
    micro_batch = left.pop("micro_batch", hardware.micro_batch)
    if micro_batch >= hardware.micro_batch or left != _alike(hardware, processes):
        return hardware
    if int(os.environ.get("RANK", 0)) == 0:
        message = f"{stage}: micro_batch {micro_batch} in place of {hardware.micro_batch}, which ran out of GPU memory"
        print(message, file=sys.stderr)
    return hardware.model_copy(update={"micro_batch": micro_batch})


def record_out_of_memory(
    folder: Path, hardware: TrainingHardware, processes: int, global_batch: int, stage: str
) -> UserError:
    """Leave word in `folder` for the next attempt; the error that tells the user.

    The micro-batch is the largest that divides a process' share of the global batch and is at most half of this one.
    """
    share, now = global_batch // processes, hardware.micro_batch
    smaller = max((size for size in range(1, now // 2 + 1) if share % size == 0), default=None)
    message = f"hardware.{stage}.micro_batch: {now} ran out of GPU memory"
    if smaller is None:
        return UserError(f"{message}; expected another strategy, offload or gradient_checkpointing, or a larger GPU")
    write_record(folder / FILE, {"micro_batch": smaller} | _alike(hardware, processes))
    return UserError(f"{message}; the next attempt resumes from the latest checkpoint with {smaller}")


def _alike(hardware: TrainingHardware, processes: int) -> dict[str, Any]:
    """All but the micro-batch that decides how much memory a step takes, and how much there is."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"processes": processes, "device": device} | hardware.model_dump(mode="json", exclude={"micro_batch"})
