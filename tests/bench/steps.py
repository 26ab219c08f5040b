"""Optimiser steps of one setting: built, run and timed."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from parrot.data.feature_store import Features, stored, write_block
from parrot.model.flops import STAGE_2, training_flops
from tests.bench.feeding import Row, decode, loader, write_images
from tests.bench.gpu import clock
from tests.bench.settings import Job, Setting
from tests.bench.subjects import NO_EXPERTS, OURS, build

IMAGES = 64  # distinct ones


class Result(NamedTuple):
    """Samples, real tokens and needed operations a second; the padding's share of all positions; seconds of loading,
    forward, backward and optimiser; peak bytes on the GPU; the first step's loss; the model's parameters."""

    samples: float
    tokens: float
    operations: float
    padding: float
    parts: tuple[float, float, float, float]
    memory: int
    loss: torch.Tensor
    parameters: int


class Runner:
    """One setting of a job on `device`; the model is there from the first step until `close`."""

    def __init__(self, job: Job, setting: Setting, device: str, folder: Path):
        self.job = job
        self.setting = setting
        self.device = device
        side = job.size.vision["image_size"]
        self.folder = folder / f"{side}"
        if not self.folder.is_dir():
            self.folder.mkdir()
            write_images(self.folder, IMAGES, side)
        self.images = [str(self.folder / f"{number}.jpg") for number in range(IMAGES)]
        self.now = clock(device)
        self.seconds: list[float] = []
        self.loss = torch.tensor(0.0)

    def open(self) -> None:
        """Build the model, its optimiser and what feeds it."""
        job, setting = self.job, self.setting
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.model = build(OURS if job.rule == "tune" else NO_EXPERTS, job.size, self.device)
        if job.rule == "align":
            self.model.requires_grad_(False).model.multi_modal_projector.requires_grad_(True)
        self.model.set_attn_implementation({"text_config": setting.attention, "vision_config": "sdpa"})
        if setting.checkpointing:
            self.model.gradient_checkpointing_enable()
        if setting.compile:
            torch.compiler.reset()
            for layer in self.model.model.language_model.layers:
                layer.compile()
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5, fused=True)
        on_gpu = self.device == "cuda"
        numbered = enumerate(job.samples)
        rows = [Row(sample, n, self.images[n % IMAGES] if sample.images else None) for n, sample in numbered]
        how: dict[str, Any] = {"num_workers": setting.workers, "pin_memory": on_gpu}
        if setting.workers:
            how["prefetch_factor"] = 4
        features = self._features() if setting.stored else None
        self.batches = loader(rows, setting.micro, job.size, setting.shuffled, features, **how)

    def close(self) -> None:
        """Give the memory back."""
        for name in ("model", "optimizer", "trained", "batches"):
            self.__dict__.pop(name, None)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def step(self, wait: bool) -> tuple[float, ...]:
        """One optimiser step; seconds of its four parts, told apart only where `wait` says to wait for each."""
        job, parts, losses = self.job, [0.0] * 4, []
        self.positions = 0

        def lap(part: int, since: float) -> float:
            if wait and self.device == "cuda":
                torch.cuda.synchronize()
            now = self.now()
            parts[part] += now - since
            return now

        supervised = sum(sample.supervised for sample in job.samples)
        now = self.now()
        for _ in range(len(job.samples) // self.setting.micro.size):
            given = next(self.batches)
            self.positions += given["input_ids"].numel()
            batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in given.items()}
            now = lap(0, now)
            with torch.autocast(self.device, torch.bfloat16, enabled=job.half):
                loss = self.model(**batch, use_cache=False, num_items_in_batch=supervised).loss
            now = lap(1, now)
            loss.backward()
            losses.append(loss.detach())
            now = lap(2, now)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.last_loss = torch.stack(losses).sum().cpu()
        lap(3, now)
        return tuple(parts)

    def warm_up(self) -> None:
        """The first step, whose loss all settings must agree on; and one more where the first one compiled."""
        self.step(wait=True)
        self.loss = self.last_loss
        if self.setting.compile or self.setting.attention == "flex_attention":
            self.step(wait=True)

    def timed(self) -> None:
        start = self.now()
        self.step(wait=False)
        self.seconds.append(self.now() - start)

    def result(self) -> Result:
        """After the timed steps: what they came to, and the parts of one more."""
        parts = self.step(wait=True)
        job, config = self.job, self.model.config
        operations = training_flops(config, job.samples, STAGE_2 if job.rule == "tune" else ("projector",))
        if self.setting.stored:
            del operations["vision_tower"]
        seconds = statistics.median(self.seconds)
        tokens = sum(sample.text + sample.images * config.num_image_tokens for sample in job.samples)
        return Result(
            samples=len(job.samples) / seconds,
            tokens=tokens / seconds,
            operations=sum(operations.values()) / seconds,
            padding=1 - tokens / self.positions,
            parts=(parts[0], parts[1], parts[2], parts[3]),
            memory=torch.cuda.max_memory_allocated() if self.device == "cuda" else 0,
            loss=self.loss,
            parameters=self.model.num_parameters(),
        )

    @torch.inference_mode()
    def _features(self) -> Features:
        """All images' features, computed and written before anything is timed."""
        folder = self.folder / ("half" if self.job.half else "single")
        shape = (self.model.config.num_image_tokens, self.model.config.vision_config.hidden_size)
        dtype = torch.bfloat16 if self.job.half else torch.float32
        for start in range(0, IMAGES, 16):
            some = self.images[start : start + 16]
            pixels = decode(some, self.job.size).to(self.device)
            with torch.autocast(self.device, torch.bfloat16, enabled=self.job.half):
                write_block(folder, some, self.model.encode_images(pixels).to("cpu", dtype))
        return Features(stored(folder), shape, dtype)


def interleaved(runners: Sequence[Runner], rounds: int) -> list[Result | str]:
    """Each runner's result, or why there is none; steps in turn, so that a busy minute hits all alike."""
    failed: dict[Runner, str] = {}

    def attempt(runner: Runner, act: Callable[[], Any]) -> Any:
        if runner in failed:
            return None
        try:
            return act()
        except Exception as error:  # one setting's failure is a row of the table, and the others are still measured
            failed[runner] = "out of memory" if isinstance(error, torch.OutOfMemoryError) else _first_line(error)
            runner.close()

    for runner in runners:
        attempt(runner, runner.open)
        attempt(runner, runner.warm_up)
    for _ in range(rounds):
        for runner in runners:
            attempt(runner, runner.timed)
    results = [attempt(runner, runner.result) for runner in runners]
    for runner in runners:
        runner.close()
    return [failed.get(runner, result) for runner, result in zip(runners, results, strict=True)]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
