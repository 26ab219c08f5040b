"""A realistic mix of sample lengths, and how much of a batch is padding or waiting under each layout, by counting.

Samples a source are those that LLaVA-1.5 mixes (arXiv 2310.03744, Table 7) and Parrot adds (arXiv 2406.02539, Table 3).
Nobody publishes lengths: text tokens here are log-normal with a median and a spread a source that we set, short for
questions answered in a word, long for conversations, such that LLaVA-1.5's samples with an image have 200 on average,
as the size of its file says. System prompt and role markers are in; visual tokens come on top.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from parrot.model.flops import Sample
from parrot.train.batches import BatchLayout, arrange_micro_batches

SHORTEST = 30  # system prompt, role markers, a word each way


class Source(NamedTuple):
    """Samples in thousands, text tokens (median, and the logarithm's standard deviation), the share of them that is
    supervised, and images a sample."""

    samples: int
    median: int
    spread: float
    supervised: float
    images: int = 1


INSTRUCTIONS = {
    "LLaVA": Source(158, 260, 0.4, 0.8),
    "ShareGPT": Source(40, 700, 0.9, 0.65, images=0),
    "VQAv2": Source(83, 140, 0.5, 0.25),
    "GQA": Source(72, 200, 0.4, 0.2),
    "OKVQA": Source(9, 60, 0.3, 0.1),
    "OCRVQA": Source(80, 130, 0.2, 0.35),
    "A-OKVQA": Source(66, 90, 0.2, 0.05),
    "TextCaps": Source(22, 110, 0.3, 0.2),
    "RefCOCO": Source(48, 220, 0.5, 0.4),
    "VG": Source(86, 300, 0.4, 0.4),
    "Chinese": Source(71, 330, 0.4, 0.8),
    "Portuguese": Source(14, 380, 0.4, 0.8),
    "Arabic": Source(12, 600, 0.4, 0.85),
    "Turkish": Source(17, 440, 0.4, 0.85),
    "Russian": Source(14, 640, 0.4, 0.85),
}
CAPTIONS = {"LLaVA": Source(558, 45, 0.2, 0.3), "LAION and CC12M": Source(657, 60, 0.3, 0.45)}


def draw(sources: dict[str, Source], count: int, visual: int, longest: int, shrink: float = 1) -> list[Sample]:
    """`count` random samples whose text and `visual` tokens are at most `longest`; text is `shrink` times shorter."""
    random = np.random.default_rng(0)
    weights = np.array([source.samples for source in sources.values()], float)
    drawn = random.choice(len(sources), count, p=weights / weights.sum())
    samples = []
    for source in (list(sources.values())[place] for place in drawn):
        text = round(max(SHORTEST, random.lognormal(np.log(source.median), source.spread)) / shrink)
        text = min(text, longest - visual * source.images)
        supervised = max(1, round(source.supervised * text))
        samples.append(Sample(text, text - supervised, supervised, source.images))
    return samples


def lengths(samples: list[Sample], visual: int) -> np.ndarray:
    """Tokens of each sample, visual ones included."""
    return np.array([sample.text + visual * sample.images for sample in samples])


def print_layouts(processes: int = 8, global_batch: int = 128, batches: int = 200) -> None:
    """Padding and waiting of stage 2 at the paper's size, by layout and micro-batch."""
    every = lengths(draw(INSTRUCTIONS, global_batch * batches, 577, 2048), 577).reshape(batches, -1)
    print(f"### Layouts of {batches} global batches of {global_batch} samples over {processes} processes, stage 2\n")
    print(f"Tokens a sample: {every.min()} to {every.max()}, median {np.median(every):.0f}. Computed counts a round of")
    print("micro-batches as its longest on any process, as long as processes wait for each other.\n")
    print("| micro-batch | layout | padding, % | useful of computed, % | longest micro-batch, tokens |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for size in (4, 16):
        for name, packed in (("random", False), ("sorted", False), ("ours", False), ("random", True), ("ours", True)):
            micro = BatchLayout(size, processes, packed)
            placed = [batch[_order(name, batch, micro)].reshape(-1, processes, size) for batch in every]
            tokens = np.stack([each.sum(-1) if packed else size * each.max(-1) for each in placed])
            computed = processes * tokens.max(-1).sum()
            padding, useful = 1 - every.sum() / tokens.sum(), every.sum() / computed
            form = f"{name}, {'packed' if packed else 'padded'}"
            print(f"| {size} | {form} | {100 * padding:.1f} | {100 * useful:.1f} | {tokens.max()} |")
    print(flush=True)


def _order(name: str, batch: np.ndarray, micro: BatchLayout) -> np.ndarray:
    match name:
        case "random":
            return np.arange(len(batch))
        case "sorted":
            return batch.argsort(kind="stable")
        case _:
            return arrange_micro_batches(batch, np.arange(len(batch)), micro)
