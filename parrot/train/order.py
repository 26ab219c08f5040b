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

from parrot.config.settings import Recipe
from parrot.train.layout import BatchLayout, laid_out


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

    def __init__(self, lengths: np.ndarray, global_batch: int, steps: int, seed: int, micro: BatchLayout):
        assert len(lengths), "sets without samples are refused where they are read; there would be no end of drawing"
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
