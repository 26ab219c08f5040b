"""How a global batch's samples are laid out over processes and micro-batches."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np


class BatchLayout(NamedTuple):
    """How a global batch is laid out: samples a micro-batch, processes, and whether a micro-batch is one packed row."""

    size: int
    processes: int = 1
    packed: bool = False


def laid_out(lengths: np.ndarray, ids: np.ndarray, micro: BatchLayout) -> np.ndarray:
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
