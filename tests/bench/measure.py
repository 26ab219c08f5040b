"""Step times on one thread and peak memory in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from tests.bench.subjects import Size, backward, batch, build

MIB = 1 << 20


class Times(NamedTuple):
    """Medians over rounds, in seconds: the process's own processor time, and the wall's."""

    cpu: float
    wall: float


def interleaved(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Times of every step, taken in turn round by round, so that a busy minute hits all alike; one round warms up.

    Processor time of one thread does not count waiting for another process, though it does count caches lost to it.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            cpu, wall = time.process_time(), time.perf_counter()
            step()
            found[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {name: Times(*map(statistics.median, zip(*pairs[1:], strict=True))) for name, pairs in found.items()}


def peak_memory(subject: str, size: Size) -> float:
    """MiB that two steps of a subject need at their peak beyond the built model and batch, gradients included.

    Measured in a fresh process as its greatest resident size, reset after building (Linux), less the size it had then.
    malloc's threshold for memory of its own is held there at its start value, so that freed tensors go back to the
    system: left alone, glibc keeps them or not by where they happen to lie, which moved one and the same step's figure
    between 370 and 480 MiB.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 17)  # read by the process that starts next
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_memory, (subject, size))


def _peak_memory(subject: str, size: Size) -> float:
    torch.set_num_threads(1)
    model, inputs = build(subject, size), batch(size)
    Path("/proc/self/clear_refs").write_text("5")  # the greatest resident size starts anew
    before = _status("VmRSS")
    for _ in range(2):
        backward(model, inputs)
    return (_status("VmHWM") - before) / MIB


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, field
    return 1024 * int(found[1])
