"""Batches for training: token ids, padded or packed, the samples' images, and what the router reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset

from parrot.constants import IGNORE_INDEX
from parrot.data.feature_store import Features
from parrot.data.images import open_image
from parrot.errors import UserError


def count_truncated(dataset: Dataset, max_length: int) -> int:
    """How many samples are longer than `max_length` tokens and lose their end."""
    return int(pc.sum(pc.greater(dataset.data["length"], max_length)).as_py() or 0)


def with_partners(dataset: Dataset, population: int, seed: int) -> Dataset:
    """`dataset` with a column `partner`: for each row a place among `population` rows, drawn by `seed`, not its own."""
    steps = np.random.default_rng(seed).integers(1, max(population, 2), len(dataset))
    return dataset.add_column("partner", ((np.arange(len(dataset)) + steps) % population).tolist())


class Collator:
    """Turns rows of a conversation data set into one batch.

    Keys: `ids` (list of sample ids); `input_ids` and `labels`, (B, T) int64, padded on the right; `router_mask`, (B, T)
    bool, the positions that the router reads; and, when any sample has an image, `pixel_values` (N, 3, S, S) and
    `language_ids` (N,) in the order of those samples. Text-only samples take no image.
    Where the router reads another text than its own row, `router_input_ids` and `router_mask` are (N, R) instead.

    With `features` there are `image_features` (N, L, d_vision) in place of `pixel_values`, in every batch: N may be 0.

    With `packed` all samples are one row, (1, sum of lengths), told apart by `position_ids` that start anew.

    There is no attention mask: behind a sample's last token causal attention never looks at the padding, and without a
    mask to apply it costs half as much.
    """

    def __init__(
        self,
        processor: Any,
        router: str,
        max_length: int,
        packed: bool = False,
        rows: Dataset | None = None,
        features: Features | None = None,
    ):
        """`router` is the model's; among `rows` the router `shuffled_text` finds the column `partner`'s samples."""
        self.processor = processor
        self.router = router
        self.max_length = max_length
        self.packed = packed
        self.rows = rows
        self.features = features

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Collate rows into one batch."""
        rows = [self._truncate(row) for row in rows]
        batch = _packed(rows) if self.packed else _padded(rows, self.processor.tokenizer.pad_token_id)
        with_image = [row for row in rows if row["image"]]
        instead = with_image if self.packed else None
        if self.router == "shuffled_text":
            instead = [self._truncate(self._partner(row)) for row in with_image]
        batch |= self.processor.router_inputs(
            _texts(rows), None if instead is None else _texts(instead), [row["language"] for row in with_image]
        )
        if self.features is not None:
            batch["image_features"] = self.features([row["image"] for row in with_image])
        elif with_image:
            images = [
                open_image(row["image"], f"{row['source']}: sample {row['id']}: image: {row['image']}")
                for row in with_image
            ]
            batch["pixel_values"] = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        return {"ids": [row["id"] for row in rows], **batch}

    def _partner(self, row: dict[str, Any]) -> dict[str, Any]:
        assert self.rows is not None, "the router shuffled_text needs the data set"
        return self.rows[row["partner"]]

    def _truncate(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["length"] <= self.max_length:
            return row
        if self.processor.image_token_id in row["input_ids"][self.max_length :]:
            where = f"{row['source']}: sample {row['id']}"
            raise UserError(f"{where}: its visual tokens do not fit into max_length {self.max_length}")
        return row | {name: row[name][: self.max_length] for name in ("input_ids", "labels")}


def _texts(rows: list[dict[str, Any]]) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"], row["labels"]) for row in rows]


def _padded(rows: list[dict[str, Any]], pad_token_id: int) -> dict[str, torch.Tensor]:
    return {
        "input_ids": _right_padded([row["input_ids"] for row in rows], pad_token_id),
        "labels": _right_padded([row["labels"] for row in rows], IGNORE_INDEX),
    }


def _packed(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One row; a sample's first token is never a label, so that no sample's end predicts the next one's start."""
    columns = {
        "input_ids": [row["input_ids"] for row in rows],
        "labels": [[IGNORE_INDEX, *row["labels"][1:]] for row in rows],
        "position_ids": [np.arange(len(row["input_ids"])) for row in rows],
    }
    return {name: torch.from_numpy(np.concatenate(parts).astype(np.int64))[None] for name, parts in columns.items()}


def _right_padded(rows: list[Any], fill: int) -> torch.Tensor:
    array = np.full((len(rows), max(map(len, rows))), fill, np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return torch.from_numpy(array)
