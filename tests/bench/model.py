"""Step time and peak memory of a training step beside a plain transcription and transformers' Llava: `make bench`.

A step is forward and backward of stage 2: everything trained but the vision encoder, float32, one thread. The subjects:

- plain transcription: `plain.py`, the equations with a loop over samples and experts, and logits at every position;
- Llava: transformers' `LlavaForConditionalGeneration` of the same sizes, which has no experts;
- ours, with experts and without.

What makes it fair: all four get the same token ids, labels and images, without padding or a cache, the same attention
kernel, and weights from one seed; before anything is timed, plain and ours must agree in loss and gradient norm, and so
must Llava and ours without experts. Half of the text tokens are supervised: logits elsewhere are what ours leaves out.
Steps are timed in turn, round by round, and medians compared; processor time counts, since the machine may be shared.
`arithmetic` is what the operations alone would give (`parrot.model.flops`): the transcription runs every layer of the
encoder and the head at every position. `every position supervised` takes that saving away: equal work for the heads.

`--gpu` runs the sizes of Qwen1.5-1.8B in bfloat16 instead (`gpu.py`); it needs torch and transformers alone.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a machine with a GPU may not have the package installed

import torch

from tests.bench import gpu
from tests.bench.machine import describe
from tests.bench.measure import Times, interleaved, peak_memory
from tests.bench.subjects import (
    LLAVA,
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
    qwen_1_8b,
    small,
    tiny,
)
from tests.bench.variants import packing, top_k

TIME_GOALS = {8_000: 0.75, 151_936: 0.42}  # ours / plain transcription
LLAVA_GOAL = 1.1  # ours without experts / Llava


def main() -> None:
    parser = argparse.ArgumentParser(description="Step time and peak memory of a training step.")
    parser.add_argument("--gpu", action="store_true", help="bfloat16 at the sizes of Qwen1.5-1.8B, on the first GPU")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # tries the code, on any machine
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"## {datetime.date.today()}, {describe(options.gpu)}\n")
    if options.gpu:
        _run_on_gpu(options.rounds, options.tiny)
        return
    for vocabulary, goal in TIME_GOALS.items():
        compare(tiny() if options.tiny else small(vocabulary), options.rounds, goal)
    size = tiny() if options.tiny else small(8_000)
    equal_work(size, options.rounds)
    top_k(size, options.rounds)
    packing(size, options.rounds)


def _run_on_gpu(rounds: int, try_only: bool) -> None:
    if try_only:
        gpu.run(tiny(), rounds, "cpu", product_side=256)
    elif torch.cuda.is_available():
        gpu.run(qwen_1_8b(), rounds)
    else:
        sys.exit("model.py: --gpu: torch finds no GPU")


def compare(size: Size, rounds: int, goal: float) -> None:
    """All four subjects at one size: a table of what was measured, and one of ratios and goals."""
    times = timed(SUBJECTS, size, rounds)
    memory = {name: peak_memory(name, size) for name in SUBJECTS}
    visual = size.parrot_config().num_image_tokens
    print(f"### Vocabulary {size.vocabulary}\n")
    print(
        f"{size.batch} samples of {size.text_tokens} text tokens, {size.supervised} of them supervised, and {visual} "
        f"visual tokens; medians of {rounds} rounds.\n"
    )
    print("| subject | step, processor s | step, wall s | peak memory, MiB | 10^9 operations |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in SUBJECTS:
        cpu, wall = times[name]
        print(f"| {name} | {cpu:.3f} | {wall:.3f} | {memory[name]:.0f} | {operations(name, size) / 1e9:.1f} |")
    print("\n| ratio | measured | goal | arithmetic |")
    print("| --- | ---: | ---: | ---: |")
    for ours, other, limit in ((OURS, PLAIN, goal), (NO_EXPERTS, LLAVA, LLAVA_GOAL)):
        arithmetic = operations(ours, size) / operations(other, size)
        _ratio("time", ours, other, times[ours].cpu / times[other].cpu, f"at most {limit}", f"{arithmetic:.2f}")
    for ours in (OURS, NO_EXPERTS):
        for other in (PLAIN, LLAVA):
            _ratio("memory", ours, other, memory[ours] / memory[other], "below 1", "")
    print(flush=True)


def equal_work(size: Size, rounds: int) -> None:
    """Ours without experts against Llava where every position is supervised, visual ones too."""
    everywhere = replace(size, supervised=size.text_tokens + size.parrot_config().num_image_tokens)
    times = timed((LLAVA, NO_EXPERTS), everywhere, rounds)
    print(f"### Every position supervised, vocabulary {size.vocabulary}\n")
    print("| ratio | measured | goal | arithmetic |")
    print("| --- | ---: | ---: | ---: |")
    arithmetic = operations(NO_EXPERTS, everywhere) / operations(LLAVA, everywhere)
    ratio = times[NO_EXPERTS].cpu / times[LLAVA].cpu
    _ratio("time", NO_EXPERTS, LLAVA, ratio, f"at most {LLAVA_GOAL}", f"{arithmetic:.2f}")
    print(flush=True)


def timed(subjects: tuple[str, ...], size: Size, rounds: int) -> dict[str, Times]:
    """Step times, after a check that subjects of the same equations give the same loss and gradients."""
    models = {name: build(name, size) for name in subjects}
    inputs = batch(size)
    results = {}
    for name, model in models.items():
        results[name] = torch.tensor([backward(model, inputs), gradient_norm(model)])
        model.zero_grad(set_to_none=True)
    for ours, other in ((OURS, PLAIN), (NO_EXPERTS, LLAVA)):
        if ours in results:
            torch.testing.assert_close(results[ours], results[other], rtol=1e-4, atol=0)
    return interleaved({name: partial(_step, model, inputs) for name, model in models.items()}, rounds)


def _step(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
    backward(model, inputs)
    model.zero_grad(set_to_none=True)  # the others' steps need the memory


def _ratio(kind: str, ours: str, other: str, measured: float, goal: str, arithmetic: str) -> None:
    print(f"| {kind}, {ours} / {other} | {measured:.2f} | {goal} | {arithmetic} |")


if __name__ == "__main__":
    main()
