"""The unusual batches whose merging was recorded: what each was made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parrot.model import ParrotForConditionalGeneration
from tests.golden.model.reference import IGNORED, Case, group, read_json
from tests.golden.model.released_way import merge

PAD_TOKEN = "<|endoftext|>"


class Edge(NamedTuple):
    """A released batch, its image slots, and how the released code was set."""

    batch: dict[str, Tensor]
    images: Tensor
    options: dict[str, Any]


def recorded(folder: Path, name: str) -> dict[str, Tensor]:
    return group(folder / "edge.safetensors", name)


def names(folder: Path) -> list[str]:
    """The batches that were merged; those that ended in an error, or came back unchanged, have no embeddings."""
    return [name for name in read_json(folder / "results.json")["edge"] if "inputs_embeds" in recorded(folder, name)]


def edge(folder: Path, name: str, model: ParrotForConditionalGeneration, four: Case) -> Edge:
    """By the name that the reference gives it; `four` is the batch `b4`."""
    batch = group(folder / "batches.safetensors", "b4")
    if name == "left_pad":
        return Edge(batch, four.slots, {"padding_side": "left"})
    if truncated := re.fullmatch(r"truncate(\d+)", name):
        return Edge(batch, four.slots, {"max_length": int(truncated[1])})
    sample = single(folder, name)
    return Edge(sample, images(folder, name, model, sample), {})


def single(folder: Path, name: str) -> dict[str, Tensor]:
    """A batch of one sample."""
    four, one = (group(folder / "batches.safetensors", batch) for batch in ("b4", "b1"))
    stored = recorded(folder, name)
    if name == "attention_mask_none":
        mask = four["attention_mask"][0]
        return {key: value[:1, mask] for key, value in four.items() if key != "images"}
    if name == "labels_none":
        return one | {"labels": torch.full_like(one["labels"], IGNORED)}
    if name == "more_images_than_samples":
        return one
    ids = stored["input_ids"]
    if name == "eot_inside":
        pad = read_json(folder / "checkpoint/added_tokens.json")[PAD_TOKEN]
        return one | {"input_ids": ids, "attention_mask": ids != pad}
    assert name in ("mid_image", "two_images"), name
    return {"input_ids": ids, "labels": stored["src_labels"], "attention_mask": torch.ones_like(ids, dtype=torch.bool)}


def images(folder: Path, name: str, model: ParrotForConditionalGeneration, sample: dict[str, Tensor]) -> Tensor:
    """All images of the reference, first the one that the sample shows: it is not recorded, but one fits."""
    expected = recorded(folder, name)["inputs_embeds"]
    found = list(group(folder / "pixels.safetensors", "pad").values())
    return torch.stack(
        sorted(found, key=lambda image: float((merge(model, sample, image[None])[0] - expected).abs().max()))
    )
