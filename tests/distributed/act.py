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

from parrot.cli import app as cli
from parrot.train.trainer import StageTrainer


def sigterm(model) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def sigkill(model) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory(model) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def linger(model) -> None:
    time.sleep(20)


def lose_weights(model) -> None:
    with torch.no_grad():
        [*model.parameters()][-1].fill_(torch.nan)  # of the language model, which text alone goes through too


def at_step(step: int, deed: Callable[[torch.nn.Module], None]) -> None:
    """Call `deed` with the model at the first micro-batch of optimiser step `step`."""
    original, done = StageTrainer.training_step, []

    def training_step(self, model, inputs, *arguments):
        if self.state.global_step + 1 == step and not done:
            done.append(step)
            deed(model)
        return original(self, model, inputs, *arguments)

    StageTrainer.training_step = training_step


deed, step, rank, *arguments = sys.argv[1:]
if rank in ("every", os.environ["RANK"]):
    at_step(int(step), globals()[deed])
sys.argv[1:] = arguments
cli.main()
