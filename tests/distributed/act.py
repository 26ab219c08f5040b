"""`act.py DEED STEP RANK ARGUMENT...`: `parrot` with ARGUMENTs, one of whose processes meets with something at a step.

Started by torchrun in place of `parrot`, so that a test can have it at an exact step of an exact process.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

import torch

from parrot import cli
from parrot.train.trainer import StageTrainer


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def linger() -> None:
    time.sleep(20)


def broken_weights() -> None:
    raise NotImplementedError


def at_step(step: int, deed: Callable[[], None]) -> None:
    """Call `deed` at the first micro-batch of optimiser step `step`."""
    original, done = StageTrainer.training_step, []

    def training_step(self, model, inputs, *arguments):
        if self.state.global_step + 1 == step and not done:
            done.append(step)
            deed()
        return original(self, model, inputs, *arguments)

    StageTrainer.training_step = training_step


deed, step, rank, *arguments = sys.argv[1:]
if os.environ["RANK"] == rank:
    at_step(int(step), globals()[deed])
sys.argv[1:] = arguments
cli.main()
