"""Stops a training at a NaN or infinite loss or gradient, or an exploding gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor, distributed

EXPLODING = 100.0  # times the usual norm
USUAL = 100  # steps whose median norm is the usual one
FEWEST = 10  # steps before there is a usual one


def complaint(logs: dict[str, float], history: Sequence[dict[str, Any]], clipped_at: float) -> str | None:
    """What is wrong with an optimiser step, by its mean loss and its gradient's norm before clipping; else none.

    A gradient explodes when its norm is more than `EXPLODING` times both the median of the steps before it and
    `clipped_at`: no step goes further than that, so that a smaller norm, after steps that hardly had any, is harmless.
    Both values are those of all processes together, so that all find the same.
    """
    loss, norm = logs["loss"], logs["grad_norm"]
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    if not math.isfinite(norm) or norm < 0:  # DeepSpeed reports a non-finite norm as -1
        return f"the gradient's norm is {norm}"
    before = [row["grad_norm"] for row in history if "grad_norm" in row][-USUAL:]
    usual = median(before) if len(before) >= FEWEST else math.inf
    if norm > EXPLODING * max(usual, clipped_at):
        return f"the gradient's norm is {norm:.4g} and that of the steps before {usual:.4g}"
    return None


def suspects(micro_batches: list[tuple[Tensor, list[str]]]) -> list[str]:
    """The samples of all processes' micro-batches whose loss is not finite, or where there is none such, of all."""
    mine = [(bool(torch.isfinite(loss)), ids) for loss, ids in micro_batches]
    shares = [mine]
    if distributed.is_initialized():
        shares = [[]] * distributed.get_world_size()
        distributed.all_gather_object(shares, mine)
    every = [micro_batch for share in shares for micro_batch in share]
    broken = [ids for finite, ids in every if not finite]
    return [name for ids in broken or [ids for _, ids in every] for name in ids]
