"""What the benchmark of training measures: jobs, each under the plain settings and under others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from transformers.utils import is_flash_attn_2_available

from parrot.model.flops import Sample
from parrot.train.batches import BatchLayout
from tests.bench.mix import CAPTIONS, INSTRUCTIONS, draw
from tests.bench.subjects import Size, mini, qwen_1_8b, qwen_7b, tiny

FLASH = "flash_attention_2"
LONGEST = 2048  # tokens of a sample
SHRINK = 6  # text of the mini scale is so much shorter


@dataclass(frozen=True)
class Setting:
    """How a job is run; the defaults are Trainer's."""

    name: str
    micro: BatchLayout
    shuffled: bool = True
    workers: int = 0
    stored: bool = False  # the encoder's features
    attention: str = "sdpa"
    compile: bool = False
    checkpointing: bool = False


# What config/paper.yaml sets for one GPU of a node, by rule: those settings are what a plan's rates are for.
CONFIGURED = {
    rule: Setting("as config/paper.yaml", BatchLayout(size), shuffled=False, workers=1, checkpointing=True)
    for rule, size in (("align", 16), ("tune", 4))
}


@dataclass(frozen=True)
class Job:
    """A stage (its rule's name) of a model on the samples of one optimiser step; `half`: bfloat16 autocast."""

    title: str
    rule: Literal["align", "tune"]
    size: Size
    samples: list[Sample]
    settings: list[Setting]
    half: bool = False


def on_processor(try_only: bool) -> list[Job]:
    """Both stages at the mini scale's size."""
    size = tiny() if try_only else mini()
    micro, count = (BatchLayout(4), 8) if try_only else (BatchLayout(12), 48)
    plain = Setting("plain", micro)
    arrange_micro_batches = replace(plain, name="laid out", shuffled=False)
    settings = [
        plain,
        arrange_micro_batches,
        replace(arrange_micro_batches, name="packed", micro=micro._replace(packed=True)),
        replace(arrange_micro_batches, name="loaded by 1 process", workers=1),
        replace(arrange_micro_batches, name="stored features", stored=True),
    ]
    return [
        Job("Stage 1, mini scale", "align", size, _captions(size, count), settings),
        Job("Stage 2, mini scale", "tune", size, _instructions(size, count, SHRINK), settings),
    ]


def on_gpu(try_only: bool) -> list[Job]:
    """Stage 2 of Qwen1.5-1.8B's sizes, stage 1 of 1.8B's and 7B's."""
    small, large = (tiny(), tiny()) if try_only else (qwen_1_8b(), qwen_7b())
    count = 16 if try_only else 64
    return [
        Job(
            "Stage 2, Qwen1.5-1.8B",
            "tune",
            small,
            _instructions(small, count, 1),
            _tuning(BatchLayout(8), try_only),
            True,
        ),
        Job("Stage 1, Qwen1.5-7B", "align", large, _captions(large, count), _aligning(BatchLayout(8)), True),
        Job("Stage 1, Qwen1.5-1.8B", "align", small, _captions(small, count), _aligning(BatchLayout(16)), True),
    ]


def _tuning(micro: BatchLayout, on_processor: bool) -> list[Setting]:
    plain = Setting("plain", micro)
    arrange_micro_batches = replace(plain, name="laid out", shuffled=False)
    loaded = replace(arrange_micro_batches, name="laid out, loaded by 8 processes", workers=8)
    packed = replace(loaded, name="packed", micro=micro._replace(packed=True))
    stored = replace(packed, name="packed, stored features", stored=True)
    settings = [plain, CONFIGURED["tune"], arrange_micro_batches, loaded, packed, stored]
    if is_flash_attn_2_available():
        settings += [replace(each, name=f"{each.name}, flash attention", attention=FLASH) for each in (loaded, stored)]
    settings += [replace(packed, micro=packed.micro._replace(size=size)) for size in (4, 16)]
    settings += [replace(settings[-1], name="packed, checkpointing", checkpointing=True)]
    settings += [replace(each, name=f"{each.name}, compiled", compile=True) for each in (loaded, packed)]
    if not on_processor:  # which has no backward for it
        settings += [replace(packed, name="packed, flex attention", attention="flex_attention")]
    return settings


def _aligning(micro: BatchLayout) -> list[Setting]:
    plain = Setting("plain", micro)
    loaded = replace(plain, name="laid out, loaded by 8 processes", shuffled=False, workers=8)
    stored = replace(loaded, name="stored features", stored=True)
    return [
        plain,
        CONFIGURED["align"],
        loaded,
        stored,
        *(replace(stored, micro=BatchLayout(size)) for size in (micro.size // 2, 2 * micro.size)),
        replace(loaded, name="laid out, loaded, compiled", compile=True),
    ]


def _captions(size: Size, count: int) -> list[Sample]:
    return draw(CAPTIONS, count, size.parrot_config().num_image_tokens, LONGEST)


def _instructions(size: Size, count: int, shrink: float) -> list[Sample]:
    return draw(INSTRUCTIONS, count, size.parrot_config().num_image_tokens, LONGEST, shrink)
