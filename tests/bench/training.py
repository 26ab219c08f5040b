"""Throughput of real training steps beside the plain settings of transformers' Trainer.

A step is an optimiser step as `parrot train` takes it on one process: micro-batches of a realistic mix of lengths
(`mix.py`) are loaded, their JPEG images decoded, run forward and backward in the recipe's precision, gradients
clipped, and AdamW (fused, as Trainer has it) takes its step. The plain settings are Trainer's own: samples in random
order, padded, loaded by the training process itself, `sdpa`, the vision encoder run in every step. Every other row
changes what it names. All settings see the same samples, and their losses must agree.

- tokens/s: real ones, visual ones included, padding not;
- of plain: samples/s over those of the plain settings, where they ran;
- data, forward, backward, optimiser: shares of the time of a step that waits for each, so that loading counts as far
  as it is waited for;
- MFU: operations that the step has to compute (`parrot.model.flops`) over its time and over the rate of a large matrix
  product measured just before; where features are stored, the encoder's are not counted.

On a processor this is the mini scale, settings in turn, and time is the process's own, since others share the machine:
what another process loads costs nothing there, as on a core that is free. `--gpu`: CLIP ViT-L/14-336 with
Qwen1.5-1.8B's sizes in both stages and with Qwen1.5-7B's in stage 1, random weights, float32 with bfloat16 autocast as
`parrot train` has it on one GPU, a sweep of micro-batches, flash attention where it is installed, packing and
compiling; settings that do not fit in memory, or in `--minutes`, are said to. It needs torch and transformers alone,
and ends with lines for config/plan.yaml: not of the fastest settings but of config/paper.yaml's, which will run.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a machine with a GPU may not have the package installed

import torch

from tests.bench.calibration import entry
from tests.bench.gpu import MFU_GOAL, matrix_product_rate
from tests.bench.machine import describe
from tests.bench.mix import print_layouts
from tests.bench.settings import Job, Setting, on_gpu, on_processor
from tests.bench.steps import Result, Runner, interleaved

HEAD = "| setting | micro-batch | samples/s | tokens/s | of plain | padding, % | data, % | forward, % | backward, % |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of training steps beside Trainer's plain settings.")
    parser.add_argument("--gpu", action="store_true", help="sizes of Qwen1.5-1.8B and 7B, on the first GPU")
    parser.add_argument("--minutes", type=float, default=9, help="settings that would start later are left out")
    parser.add_argument("--rounds", type=int, default=3, help="timed optimiser steps")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # tries the code, on any machine
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if options.gpu and not options.tiny else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("training.py: --gpu: torch finds no GPU")
    started = time.monotonic()
    print(f"## {datetime.date.today()}, {describe(options.gpu)}\n")
    print_layouts()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for job in (on_gpu if options.gpu else on_processor)(options.tiny):
            deadline = started + 60 * options.minutes
            lines += run(job, options.rounds, device, Path(folder), deadline)
    if device == "cuda":
        print("\n".join(["For config/plan.yaml:", "", "```yaml", "measured:", *lines, "```"]))


def run(job: Job, rounds: int, device: str, folder: Path, deadline: float) -> list[str]:
    """Print a job's table; on a GPU its entry of config/plan.yaml's `measured`."""
    dtype = torch.bfloat16 if job.half else torch.float32
    rate = matrix_product_rate(1024 if device == "cpu" else 8192, device, dtype)
    print(f"### {job.title}\n")
    print(
        f"{len(job.samples)} samples an optimiser step, medians of {rounds}. Matrix products reach {rate / 1e12:.3g} "
        f"TFLOP/s. Goal on a GPU: MFU of {100 * MFU_GOAL:.0f} %.\n"
    )
    print(f"{HEAD} optimiser, % | peak memory, GiB | MFU, % |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    results: dict[Setting, Result] = {}
    make = [(setting, Runner(job, setting, device, folder)) for setting in job.settings]
    together = [make] if device == "cpu" else [[each] for each in make]
    for some in together:
        if time.monotonic() > deadline:
            print(f"| {some[0][0].name} | {some[0][0].micro.size} | not run: out of time |", flush=True)
            continue
        for (setting, _), result in zip(some, interleaved([runner for _, runner in some], rounds), strict=True):
            start = f"| {setting.name} | {setting.micro.size} |"
            if isinstance(result, str):
                print(f"{start} {result} |", flush=True)
                continue
            results[setting] = result
            first = next(iter(results.values()))
            torch.testing.assert_close(result.loss, first.loss, rtol=0.03 if job.half else 1e-4, atol=0)
            print(f"{start} {cells(result, results.get(job.settings[0]), rate)} |", flush=True)
    print(flush=True)
    return entry(job, results, torch.cuda.get_device_name()) if device == "cuda" else []


def cells(result: Result, plain: Result | None, rate: float) -> str:
    """A row's figures, those of the plain settings to compare with and of a matrix product's operations a second."""
    parts = " | ".join(f"{100 * part / sum(result.parts):.1f}" for part in result.parts)
    return (
        f"{result.samples:.1f} | {result.tokens:.0f} | {f'{result.samples / plain.samples:.2f}' if plain else ''} | "
        f"{100 * result.padding:.1f} | {parts} | {result.memory / 2**30:.1f} | {100 * result.operations / rate:.1f}"
    )


if __name__ == "__main__":
    main()
