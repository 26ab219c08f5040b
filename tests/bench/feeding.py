"""Micro-batches for the benchmark of training: samples of given lengths, with images that have to be decoded.

They are what `parrot.data.collate` makes. That module needs more than torch and transformers, this one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from parrot.constants import IGNORE_INDEX
from parrot.data.feature_store import Features
from parrot.model import ParrotImageProcessor
from parrot.model.flops import Sample
from parrot.train.batches import BatchLayout, arrange_micro_batches
from tests.bench.subjects import SYSTEM, Size

REPEATED = 100  # times, more than anything steps


class Row(NamedTuple):
    """A sample and its image's file."""

    sample: Sample
    number: int
    image: str | None


def write_images(folder: Path, count: int, side: int) -> list[str]:
    """JPEG files as a camera's: 4 by 3, twice the encoder's side in height, smooth with some noise."""
    random, paths = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize((8 * side // 3, 2 * side))
        noisy = np.array(coarse, int) + random.integers(-8, 9, (2 * side, 8 * side // 3, 3))
        paths.append(str(folder / f"{number}.jpg"))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def loader(
    rows: list[Row], micro: BatchLayout, size: Size, shuffled: bool, features: Features | None, **how: Any
) -> Iterator[dict[str, Tensor]]:
    """The global batch `rows` as micro-batches, over and over; `how` goes to torch's loader."""
    visual = size.parrot_config().num_image_tokens
    lengths = np.array([row.sample.text + visual * row.sample.images for row in rows])
    order = np.arange(len(rows)) if shuffled else arrange_micro_batches(lengths, np.arange(len(rows)), micro)
    batches = [[rows[place] for place in some] for some in order.reshape(-1, micro.size)]
    collate = Collate(size, micro.packed, features)
    return iter(DataLoader(batches * REPEATED, batch_size=None, collate_fn=collate, **how))  # type: ignore[arg-type]


def decode(paths: list[str], size: Size) -> Tensor:
    """Pixels of image files, (N, 3, S, S)."""
    side = size.vision["image_size"]
    processor = ParrotImageProcessor(size={"shortest_edge": side}, crop_size=side)
    return processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")["pixel_values"]


class Collate:
    """Turns rows into a micro-batch, padded or packed into one row."""

    def __init__(self, size: Size, packed: bool, features: Features | None):
        self.size = size
        self.packed = packed
        self.features = features
        self.visual = size.parrot_config().num_image_tokens

    def __call__(self, rows: list[Row]) -> dict[str, Tensor]:
        pad = nn.utils.rnn.pad_sequence
        ids, labels = zip(*(self._tokens(row) for row in rows), strict=True)
        if self.packed:
            batch = {"input_ids": torch.cat(ids)[None], "labels": torch.cat([_unlinked(each) for each in labels])[None]}
            batch["position_ids"] = torch.cat([torch.arange(len(each)) for each in ids])[None]
        else:
            batch = {"input_ids": pad(list(ids), True), "labels": pad(list(labels), True, IGNORE_INDEX)}
        with_image = [place for place, row in enumerate(rows) if row.image]
        if self.packed and with_image:
            texts = [ids[place][self._read(ids[place], labels[place])] for place in with_image]
            batch["router_input_ids"] = pad(texts, True)
            batch["router_mask"] = pad([torch.ones_like(each, dtype=torch.bool) for each in texts], True)
        elif not self.packed:
            reads = [self._read(*each) for each in zip(ids, labels, strict=True)]
            batch["router_mask"] = pad(reads, True)
        paths = [row.image for row in rows if row.image]
        if self.features is not None:
            batch["image_features"] = self.features(paths)
        elif paths:
            batch["pixel_values"] = decode(paths, self.size)
        return batch

    def _tokens(self, row: Row) -> tuple[Tensor, Tensor]:
        """Ids with the image behind the system prompt, and labels of the last tokens."""
        sample, image = row.sample, self.size.image_token
        generator = torch.Generator().manual_seed(row.number)
        text = torch.randint(image, (sample.text,), generator=generator)
        image = torch.full((self.visual * sample.images,), image)
        start = min(SYSTEM, sample.prompt)
        ids = torch.cat([text[:start], image, text[start:]])
        return ids, torch.where(torch.arange(len(ids)) >= len(ids) - sample.supervised, ids, IGNORE_INDEX)

    def _read(self, ids: Tensor, labels: Tensor) -> Tensor:
        return (labels == IGNORE_INDEX) & (ids != self.size.image_token)


def _unlinked(labels: Tensor) -> Tensor:
    """Without the first token's, so that no sample's end predicts the next one's start."""
    return torch.cat([torch.tensor([IGNORE_INDEX]), labels[1:]])
