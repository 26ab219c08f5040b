"""What happens beside the optimiser steps: recording, reporting, evaluating and stopping on a signal."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any, TextIO

import torch
from torch import Tensor, distributed
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from parrot.errors import naming

SECONDS_BETWEEN_LINES = 10.0


class Recorder(TrainerCallback):
    """Appends every optimiser step and every held-out loss to `metrics.jsonl`, one JSON object a line."""

    def __init__(self, path: Path, global_batch: int):
        self.path = path
        self.global_batch = global_batch

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        row = self._row(state.global_step, logs)
        if row and state.is_world_process_zero:
            with naming(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _row(self, step: int, logs: dict[str, float]) -> dict[str, float] | None:
        held_out = {name: value for name, value in logs.items() if name.startswith("eval_loss_")}
        if held_out:
            return {"step": step, **held_out, "time": time.time()}
        if "loss" not in logs:
            return None
        values = {"loss": logs["loss"], "lr": logs["learning_rate"], "grad_norm": logs["grad_norm"]}
        return {"step": step, **values, "samples": step * self.global_batch, "time": time.time()}


class Progress(TrainerCallback):
    """Shows loss, samples a second and time left: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, stage: str, global_batch: int, stream: TextIO = sys.stderr):
        self.stage = stage
        self.global_batch = global_batch
        self.stream = stream
        self.bar: tqdm | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.first_step, self.started = state.global_step, time.monotonic()
        self.last_line = self.started
        if state.is_world_process_zero and self.stream.isatty():
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc=self.stage, file=self.stream, dynamic_ncols=True
            )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs or not state.is_world_process_zero:
            return
        now, step = time.monotonic(), state.global_step
        rate = (step - self.first_step) * self.global_batch / max(now - self.started, 1e-9)
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {logs['loss']:.4f}, {rate:.0f} samples/s", refresh=False)
            self.bar.update(step - self.bar.n)
        elif now - self.last_line >= SECONDS_BETWEEN_LINES or step == state.max_steps:
            self.last_line = now
            left = (now - self.started) * (state.max_steps - step) / max(step - self.first_step, 1)
            line = f"{self.stage}: step {step} of {state.max_steps}, loss {logs['loss']:.4f}, {rate:.0f} samples/s"
            print(f"{line}, {tqdm.format_interval(left)} left", file=self.stream, flush=True)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


class HeldOut(TrainerCallback):
    """Asks for the held-out loss every `every` steps (never, where none) and after the last step."""

    def __init__(self, every: int | None):
        self.every = every

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        due = self.every is not None and state.global_step % self.every == 0
        control.should_evaluate |= due or state.global_step == state.max_steps


class StopOnSignal(TrainerCallback):
    """On SIGTERM (Slurm's pre-emption) or SIGINT (Ctrl-C) saves after the optimiser step under way, then stops.

    All processes stop together; a second SIGINT ends at once. As a context it also ends what comes before and after
    training, by SystemExit with `exit_code`: there is nothing to save, and half-written files are removed on the way.
    """

    def __init__(self) -> None:
        self.received = 0  # the signal's number
        self.training = False

    @property
    def exit_code(self) -> int:
        """As a shell tells of a process that the signal ended: 143 or 130."""
        return 128 + self.received

    def __enter__(self) -> StopOnSignal:
        self.previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number, handler in self.previous.items():
            if number == signal.SIGTERM or handler != signal.SIG_IGN:  # a shell has it ignored in the background
                signal.signal(number, self._act)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.training = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._signal_of_any(args):
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.training = False

    def _act(self, number: int, frame: FrameType | None) -> None:
        again, self.received = number == self.received == signal.SIGINT, number
        if number == signal.SIGINT and int(os.environ.get("RANK", 0)) == 0:
            saves = "; a checkpoint is saved after this step, another Ctrl-C ends at once" * self.training
            print(f"parrot: interrupted{'' if again else saves}", file=sys.stderr, flush=True)
        if again or not self.training:
            raise SystemExit(self.exit_code)

    def _signal_of_any(self, args: TrainingArguments) -> bool:
        if args.world_size > 1:
            signals = torch.tensor(self.received, device=args.device)
            torch.distributed.all_reduce(signals, torch.distributed.ReduceOp.MAX)
            self.received = int(signals)
        return bool(self.received)


EXPLODING = 100.0  # times the usual norm
USUAL = 100  # steps whose median norm is the usual one
FEWEST = 10  # steps before there is a usual one


def step_fault(logs: dict[str, float], history: Sequence[dict[str, Any]], clipped_at: float) -> str | None:
    """Say what is wrong with an optimiser step, by its mean loss and its gradient's norm before clipping; else none.

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


def non_finite_samples(micro_batches: list[tuple[Tensor, list[str]]]) -> list[str]:
    """Return the samples of all processes' micro-batches whose loss is not finite, or all where there is none."""
    mine = [(bool(torch.isfinite(loss)), ids) for loss, ids in micro_batches]
    shares = [mine]
    if distributed.is_initialized():
        shares = [[]] * distributed.get_world_size()
        distributed.all_gather_object(shares, mine)
    every = [micro_batch for share in shares for micro_batch in share]
    broken = [ids for finite, ids in every if not finite]
    return [name for ids in broken or [ids for _, ids in every] for name in ids]
