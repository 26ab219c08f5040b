"""The language-model loss in the memory of its logits alone.

Ours, since the fused losses of kernel libraries need a GPU, and this one gives the same numbers without.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 22  # logits that are float32 at a time: 16 MiB


class _CrossEntropy(torch.autograd.Function):
    """Summed cross entropy whose backward pass turns the logits into their gradient in place.

    `F.cross_entropy` keeps log-probabilities beside the logits, and copies of both in float32 where these are bfloat16:
    at a vocabulary of 152 thousand more than everything else that a step keeps.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        size = _rows(logits)
        pairs = zip(logits.split(size), targets[:, None].split(size), strict=True)
        log_likelihoods = torch.cat([rows.log_softmax(-1, torch.float32).gather(1, places) for rows, places in pairs])
        ctx.save_for_backward(logits, targets, log_likelihoods)
        return -log_likelihoods.sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets, log_likelihoods = ctx.saved_tensors
        norms = logits.gather(1, targets[:, None]).float() - log_likelihoods
        size = _rows(logits)
        for rows, places, norm in zip(logits.split(size), targets.split(size), norms.split(size), strict=True):
            probabilities = rows.float().sub_(norm).exp_()  # in place where `rows` is float32 already
            probabilities.scatter_add_(1, places[:, None], torch.full_like(norm, -1.0))
            rows.copy_(probabilities.mul_(gradient))
        return logits, None


def _rows(logits: Tensor) -> int:
    return max(1, CHUNK // logits.shape[1])


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy, float32, summed over all rows: logits (R, V) in any precision, targets (R,).

    Its backward pass overwrites `logits`, which nobody else may read after it.
    """
    return _CrossEntropy.apply(logits, targets)
