"""The step at the sizes of Qwen1.5-1.8B in bfloat16 on one GPU: tokens/s, peak memory, model FLOPs utilisation (MFU).

MFU is the operations that the step has to compute (`parrot.model.flops`: no padding, nothing twice, frozen parts as
frozen), over its time and over the rate of a large bfloat16 matrix product measured just before. Subjects of the same
equations are held against the same operations, so that what one computes needlessly lowers its figure; their losses and
gradient norms must agree.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from transformers.utils import is_flash_attn_2_available

from tests.bench.subjects import (
    NO_EXPERTS,
    OURS,
    PLAIN,
    SUBJECTS,
    Size,
    backward,
    batch,
    build,
    gradient_norm,
    operations,
)

MFU_GOAL = 0.55
GIB = 1 << 30


class Step(NamedTuple):
    """Seconds, peak bytes beyond model and batch with gradients included, and the loss and gradient norm."""

    seconds: float
    memory: int
    result: torch.Tensor


def run(size: Size, rounds: int, device: str = "cuda", product_side: int = 8192) -> None:
    """Print the table: every subject, ours also compiled, by every kind of attention that loads."""
    rate = matrix_product_rate(product_side, device)
    tokens = size.batch * (size.text_tokens + size.parrot_config().num_image_tokens)
    print(
        f"{size.batch} samples of {size.text_tokens} text tokens, {size.supervised} of them supervised; {tokens} "
        f"tokens a step with the visual ones; medians of {rounds} steps. bfloat16 matrix products reach "
        f"{rate / 1e12:.1f} TFLOP/s. Goal: MFU of {100 * MFU_GOAL:.0f} % for ours.\n"
    )
    print("| subject | attention | compiled | step, ms | tokens/s | peak memory beyond weights, GiB | TFLOP | MFU, % |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    expected: dict[bool, torch.Tensor] = {}
    for attention in ["sdpa"] + ["flash_attention_2"] * is_flash_attn_2_available():
        for subject in SUBJECTS:
            for compiled in (False, True) if subject in (OURS, NO_EXPERTS) else (False,):
                start = f"| {subject} | {attention} | {'yes' if compiled else 'no'} |"
                try:
                    step = measure(subject, size, attention, compiled, device, rounds)
                except torch.OutOfMemoryError:
                    print(f"{start} out of memory | | | | |", flush=True)
                    continue
                has_experts = subject in (PLAIN, OURS)
                torch.testing.assert_close(
                    step.result, expected.setdefault(has_experts, step.result), rtol=0.05, atol=0
                )
                needed = operations(subject, size, needed=True)
                print(
                    f"{start} {1000 * step.seconds:.0f} | {tokens / step.seconds:.0f} | {step.memory / GIB:.1f} | "
                    f"{needed / 1e12:.1f} | {100 * needed / step.seconds / rate:.1f} |",
                    flush=True,
                )


def measure(subject: str, size: Size, attention: str, compiled: bool, device: str, rounds: int) -> Step:
    """Build a subject, warm it up and time it."""
    gc.collect()
    model = build(subject, size, device, torch.bfloat16)
    for part in model.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation(attention)
    inputs = batch(size, device, torch.bfloat16)
    on_gpu = device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    if compiled:
        torch.compiler.reset()
    step = partial(backward, torch.compile(model) if compiled else model, inputs)
    seconds = timed(step, device, rounds)
    memory = torch.cuda.max_memory_allocated() - before if on_gpu else 0
    return Step(seconds, memory, torch.tensor([step(), gradient_norm(model)]))


def timed(step: Callable[[], Any], device: str, rounds: int) -> float:
    """Median seconds of a step after three that warm up."""
    seconds, now = [], clock(device)
    for _ in range(3 + rounds):
        _wait(device)
        start = now()
        step()
        _wait(device)
        seconds.append(now() - start)
    return statistics.median(seconds[3:])


def clock(device: str) -> Callable[[], float]:
    """The wall's on a GPU; on processors, which other programs share, the process's own."""
    return time.perf_counter if device == "cuda" else time.process_time


def matrix_product_rate(side: int, device: str, dtype: torch.dtype = torch.bfloat16) -> float:
    """Operations a second of a square matrix product on random data."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / timed(lambda: left @ right, device, 20)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
