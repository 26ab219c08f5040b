"""The unusual batches whose merging was recorded: what each was made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from reference import IGNORED, Case, group, read_json
from torch import Tensor

PAD_TOKEN = "<|endoftext|>"


class Edge(NamedTuple):
    """A released batch, its picture slots, and how the released code was set."""

    batch: dict[str, Tensor]
    images: Tensor
    options: dict[str, Any]


def recorded(folder: Path, name: str) -> dict[str, Tensor]:
    return group(folder / "edge.safetensors", name)


def names(folder: Path) -> list[str]:
    """The batches that were merged; those that ended in an error, or came back unchanged, have no embeddings."""
    return [name for name in read_json(folder / "results.json")["edge"] if "inputs_embeds" in recorded(folder, name)]


def edge(folder: Path, name: str, cases: dict[str, Case]) -> Edge:
    """By the name that the reference gives it.

    cases: the batches `b4` and `b1`. A single sample shows the first picture of `b4`, or that of `b1` if it is `b1`'s.
    """
    four, one = (group(folder / "batches.safetensors", batch) for batch in ("b4", "b1"))
    stored, four_images = recorded(folder, name), cases["b4"].slots
    if name == "left_pad":
        return Edge(four, four_images, {"padding_side": "left"})
    if truncated := re.fullmatch(r"truncate(\d+)", name):
        return Edge(four, four_images, {"max_length": int(truncated[1])})
    if name == "attention_mask_none":
        mask = four["attention_mask"][0]
        return Edge({key: value[:1, mask] for key, value in four.items() if key != "images"}, four_images[:1], {})
    if name == "labels_none":
        return Edge(one | {"labels": torch.full_like(one["labels"], IGNORED)}, cases["b1"].slots, {})
    if name == "more_images_than_samples":
        return Edge(one, four_images, {})
    if name == "eot_inside":
        pad = read_json(folder / "checkpoint/added_tokens.json")[PAD_TOKEN]
        ids = stored["input_ids"]
        return Edge(one | {"input_ids": ids, "attention_mask": ids != pad}, cases["b1"].slots, {})
    ids = stored["input_ids"]  # mid_image and two_images
    mask = torch.ones_like(ids, dtype=torch.bool)
    return Edge({"input_ids": ids, "labels": stored["src_labels"], "attention_mask": mask}, four_images, {})
