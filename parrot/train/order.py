"""Which samples an optimiser step sees: a function of the seed, the data and the global batch alone.

How an optimiser step spreads its samples over processes and micro-batches changes its sums by rounding only, so that
training can move to other hardware.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

from parrot.config import ConfigError, Recipe
from parrot.train.layout import Micro, laid_out


def accumulation_steps(global_batch: int, micro_batch: int, processes: int) -> int:
    """Micro-batches that a process accumulates for one optimiser step.

    Raises ConfigError when `micro_batch` x `processes` does not divide the global batch; the message names the nearest
    micro-batches that would.
    """
    if global_batch % (micro_batch * processes) == 0:
        return global_batch // (micro_batch * processes)
    if global_batch % processes:
        raise ConfigError(f"global_batch {global_batch} cannot be split over {processes} processes")
    share = global_batch // processes
    fitting = [size for size in range(1, share + 1) if share % size == 0]
    below = max((size for size in fitting if size < micro_batch), default=None)
    above = min((size for size in fitting if size > micro_batch), default=None)
    nearest = " and ".join(str(size) for size in (below, above) if size)
    raise ConfigError(
        f"micro_batch: {micro_batch} x {processes} processes does not divide global_batch {global_batch}; "
        f"the nearest that do: {nearest}"
    )


def optimiser_steps(recipe: Recipe, samples: int) -> int:
    """Optimiser steps of a stage; a last batch of an epoch is filled up from the next one."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    assert recipe.epochs is not None
    return math.ceil(recipe.epochs * samples / recipe.global_batch)


class GlobalBatches(Sampler[int]):
    """Indices of `steps` global batches in a row: one permutation of the data after another, cut into batches.

    A global batch is a random draw that the seed alone decides; its samples are then laid out so that little is padding
    and no process waits for another (`laid_out`). `lengths` are the samples' tokens, (n,).
    """

    def __init__(self, lengths: np.ndarray, global_batch: int, steps: int, seed: int, micro: Micro):
        self.lengths = lengths
        self.global_batch = global_batch
        self.steps = steps
        self.seed = seed
        self.micro = micro

    def __len__(self) -> int:
        return self.steps * self.global_batch

    def __iter__(self) -> Iterator[int]:
        stream = self._stream()
        for _ in range(self.steps):
            batch = np.fromiter(islice(stream, self.global_batch), int)
            yield from batch[laid_out(self.lengths[batch], batch, self.micro)].tolist()

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            yield from np.random.default_rng([self.seed, epoch]).permutation(len(self.lengths)).tolist()
            epoch += 1
