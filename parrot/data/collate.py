"""Batches for training: right-padded token ids and the pictures of the samples that have one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset

from parrot.config import ConfigError
from parrot.data.pictures import read_picture

IGNORED = -100  # label of positions without supervision


def count_truncated(dataset: Dataset, max_length: int) -> int:
    """How many samples are longer than `max_length` tokens and lose their end."""
    return int(pc.sum(pc.greater(dataset.data["length"], max_length)).as_py() or 0)


class Collator:
    """Turns rows of a conversation data set into one batch.

    Keys: `ids` (list of sample ids); `input_ids` and `labels`, (B, T) int64, padded on the right; `router_mask`, (B, T)
    bool, the positions without supervision or padding; and, when any sample has a picture, `pixel_values` (N, 3, S, S)
    in the order of those samples. Text-only samples take no picture.

    There is no attention mask: behind a sample's last token causal attention never looks at the padding, and without a
    mask to apply it costs half as much.
    """

    def __init__(self, processor: Any, image_token_id: int, max_length: int):
        self.image_processor = processor.image_processor
        self.pad_token_id = processor.tokenizer.pad_token_id
        self.image_token_id = image_token_id
        self.max_length = max_length

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        rows = [self._truncate(row) for row in rows]
        width = max(len(row["input_ids"]) for row in rows)
        input_ids = np.full((len(rows), width), self.pad_token_id, np.int64)
        labels = np.full((len(rows), width), IGNORED, np.int64)
        router_mask = np.zeros((len(rows), width), bool)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            input_ids[index, :length] = row["input_ids"]
            labels[index, :length] = row["labels"]
            router_mask[index, :length] = labels[index, :length] == IGNORED
        arrays = {"input_ids": input_ids, "labels": labels, "router_mask": router_mask}
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        pictures = [read_picture(row["image"], f"{row['source']}: sample {row['id']}") for row in rows if row["image"]]
        if pictures:
            batch["pixel_values"] = self.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return {"ids": [row["id"] for row in rows], **batch}

    def _truncate(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["length"] <= self.max_length:
            return row
        if self.image_token_id in row["input_ids"][self.max_length :]:
            where = f"{row['source']}: sample {row['id']}"
            raise ConfigError(f"{where}: its visual tokens do not fit into max_length {self.max_length}")
        return row | {name: row[name][: self.max_length] for name in ("input_ids", "labels")}
