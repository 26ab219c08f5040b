"""Which samples an optimiser step sees: a function of the seed, the data and the global batch alone.

How an optimiser step lays its samples out over processes and micro-batches changes its sums by rounding only, so that
training can move to other hardware. transformers' own grouping by length depends on the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from parrot.config.settings import Recipe


def optimiser_steps(recipe: Recipe, samples: int) -> int:
    """Optimiser steps of a stage; a last batch of an epoch is filled up from the next one."""
    if recipe.max_steps is not None:
        return recipe.max_steps
    assert recipe.epochs is not None
    return math.ceil(recipe.epochs * samples / recipe.global_batch)


class GlobalBatches(Sampler[int]):
    """Indices of `steps` global batches in a row: one permutation of the data after another, cut into batches.

    A global batch is a random draw that the seed alone decides; its samples are then laid out so that little is padding
    and no process waits for another (`arrange_micro_batches`). `lengths` are the samples' tokens, (n,).
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
            yield from batch[arrange_micro_batches(self.lengths[batch], batch, self.micro)].tolist()

    def _stream(self) -> Iterator[int]:
        epoch = 0
        while True:
            yield from np.random.default_rng([self.seed, epoch]).permutation(len(self.lengths)).tolist()
            epoch += 1


class BatchLayout(NamedTuple):
    """How a global batch is laid out: samples a micro-batch, processes, and whether a micro-batch is one packed row."""

    size: int
    processes: int = 1
    packed: bool = False


def arrange_micro_batches(lengths: np.ndarray, ids: np.ndarray, micro: BatchLayout) -> np.ndarray:
    """Places of a global batch's samples, (n,), in the order of its micro-batches; `ids` decide between equal lengths.

    Micro-batches are dealt to the processes in turn, as `accelerate` does. Padded ones hold samples of like length:
    those that run at the same time are neighbours in length, and which process gets the longest alternates. Packed ones
    each hold short and long samples, so that all have about the same number of tokens.
    """
    by_length = np.lexsort((ids, lengths))
    if micro.packed:
        return _even_sums(by_length, lengths, len(lengths) // micro.size)
    rounds = by_length.reshape(-1, micro.processes, micro.size)
    rounds[1::2] = rounds[1::2, ::-1]
    return rounds.reshape(-1)


def _even_sums(by_length: np.ndarray, lengths: np.ndarray, groups: int) -> np.ndarray:
    """Longest first, each to the group with the fewest tokens among those that are not full."""
    size = len(by_length) // groups
    members: list[list[int]] = [[] for _ in range(groups)]
    waiting = [(0, group) for group in range(groups)]
    for place in by_length[::-1].tolist():
        tokens, group = heappop(waiting)
        members[group].append(place)
        if len(members[group]) < size:
            heappush(waiting, (tokens + int(lengths[place]), group))
    return np.concatenate([np.array(group) for group in members])
