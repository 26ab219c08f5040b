"""Which samples an optimiser step sees: a function of the seed, the data and the global batch alone.

The order does not depend on the number of processes or on the micro-batch, so that training can move to other hardware.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from parrot.config import ConfigError, Recipe


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

    Inside a global batch the samples go from short to long: its micro-batches need little padding, and what an
    optimiser step sees is still a random draw. `lengths` are the samples' tokens, (n,).
    """

    def __init__(self, lengths: np.ndarray, global_batch: int, steps: int, seed: int):
        self.lengths = lengths
        self.global_batch = global_batch
        self.steps = steps
        self.seed = seed

    def __len__(self) -> int:
        return self.steps * self.global_batch

    def __iter__(self) -> Iterator[int]:
        batch: list[int] = []
        for step_of_sample, index in zip(range(len(self)), self._stream(), strict=False):
            batch.append(index)
            if (step_of_sample + 1) % self.global_batch == 0:
                yield from sorted(batch, key=lambda sample: (self.lengths[sample], sample))
                batch = []

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            yield from np.random.default_rng([self.seed, epoch]).permutation(len(self.lengths)).tolist()
            epoch += 1
