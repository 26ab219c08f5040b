"""The folder of reference values, and what the released code calls a batch in this model's terms."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parrot.config.catalog import ConversationSet
from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotProcessor
from parrot.model.convert.mapping import released_parts

RELEASED_IMAGE_TOKEN = -200
IGNORED = -100
# Absolute, in float32: what attention kernels and the order of sums may change.
PIXELS, EMBEDDINGS, LOGITS, LOSS = 1e-6, 1e-5, 5e-5, 1e-5
RELATIVE = 1e-4  # of a gradient's norm, of an optimiser step's loss


@cache
def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def read_tensors(path: Path) -> dict[str, Tensor]:
    return load_file(path)


def group(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file whose names start with `prefix` and a dot, by the rest of their names."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in read_tensors(path).items() if name.startswith(start)}


def variants(folder: Path) -> list[str]:
    return sorted(path.stem.removeprefix("golden_") for path in folder.glob("golden_*.safetensors"))


def stored(folder: Path) -> list[tuple[str, str, str]]:
    """Variant, batch and name of every stored tensor, gradients apart."""
    names = [
        (variant, *name.split(".", 1)) for variant in variants(folder) for name in read_tensors(golden(folder, variant))
    ]
    return [(variant, batch, name) for variant, batch, name in names if not name.startswith("grad.")]


def golden(folder: Path, variant: str) -> Path:
    return folder / f"golden_{variant}.safetensors"


class Case(NamedTuple):
    """A released batch.

    inputs: `input_ids`, `labels` and `attention_mask`, each image's token repeated, padded on the right.
    slots: (B, 3, S, S), the released batch's images, one a sample, blank for a sample of text alone.
    with_image: (B,) bool, the samples with an image.
    """

    inputs: dict[str, Tensor]
    slots: Tensor
    with_image: Tensor

    @property
    def model_inputs(self) -> dict[str, Tensor]:
        """What this model's `forward` takes: images for the samples that have one."""
        return self.inputs | ({"pixel_values": self.slots[self.with_image]} if self.with_image.any() else {})


def case(folder: Path, batch: str, processor: ParrotProcessor) -> Case:
    tensors = group(folder / "batches.safetensors", batch)
    slots = tensors.get("images")
    if slots is None:
        samples = {sample["id"]: sample for sample in read_json(folder / "data.json")}
        names = read_json(folder / "results.json")["info"]["batches"][batch]
        slots = torch.stack([slot(folder, samples[name], processor) for name in names])
    inputs = expanded(tensors, processor)
    return Case(inputs, slots, (inputs["input_ids"] == processor.image_token_id).any(1))


def slot(folder: Path, sample: dict[str, Any], processor: ParrotProcessor) -> Tensor:
    """The image that the released data set gives a sample, (3, S, S): blank where it has none, the mean colour where
    its file cannot be read."""
    if "image" not in sample:
        return torch.zeros(3, *side(processor))
    path = folder / "images" / sample["image"]
    return pixels(Image.open(path) if path.is_file() else mean_colour(processor), processor)


def pixels(image: Image.Image, processor: ParrotProcessor, **options: Any) -> Tensor:
    return processor.image_processor(image, return_tensors="pt", **options)["pixel_values"][0]


def mean_colour(processor: ParrotProcessor) -> Image.Image:
    return Image.new("RGB", side(processor), tuple(int(255 * mean) for mean in processor.image_processor.image_mean))


def side(processor: ParrotProcessor) -> tuple[int, int]:
    crop = processor.image_processor.crop_size
    return crop["height"], crop["width"]


def expand(ids: list[int], labels: list[int], processor: ParrotProcessor) -> tuple[list[int], list[int]]:
    """A released sample with its image's token repeated for every visual token, which is never supervised."""
    pairs: list[tuple[int, int]] = []
    for token, label in zip(ids, labels, strict=True):
        is_image = token == RELEASED_IMAGE_TOKEN
        visual = [(processor.image_token_id, IGNORED)] * processor.num_image_tokens
        pairs += visual if is_image else [(token, label)]
    return [token for token, _ in pairs], [label for _, label in pairs]


def expanded(batch: dict[str, Tensor], processor: ParrotProcessor, padding_side: str = "right") -> dict[str, Tensor]:
    """A released batch with every image's token repeated, padded anew; positions outside its mask are left out."""
    rows = [
        expand(ids[mask].tolist(), labels[mask].tolist(), processor)
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    ]
    masks = [torch.ones(len(ids), dtype=torch.long) for ids, _ in rows]
    columns = {
        "input_ids": ([torch.tensor(ids) for ids, _ in rows], 0),
        "labels": ([torch.tensor(labels) for _, labels in rows], IGNORED),
        "attention_mask": (masks, 0),
    }
    return {
        name: pad_sequence(column, batch_first=True, padding_value=value, padding_side=padding_side)
        for name, (column, value) in columns.items()
    }


def released_names(tensors: Iterable[tuple[str, Tensor]], config: ParrotConfig) -> dict[str, Tensor]:
    """This model's tensors as the released code names and splits them."""
    return {theirs: part for name, tensor in tensors for theirs, part in released_parts(name, tensor, config).items()}


@contextmanager
def language_model_inputs(model: ParrotForConditionalGeneration) -> Iterator[dict[str, Any]]:
    """Collects what the language model is called with."""
    seen: dict[str, Any] = {}

    def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        seen.update(kwargs)

    hook = model.model.language_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def close(found: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@torch.no_grad()
def embedded(model: ParrotForConditionalGeneration, inputs: dict[str, Tensor], images: Tensor | None = None) -> Tensor:
    """What a forward pass gives the language model, (B, T, d)."""
    with language_model_inputs(model) as seen:
        model(**inputs | ({} if images is None else {"pixel_values": images}))
    return seen["inputs_embeds"]


def conversation_set(folder: Path, images: Path, lost: tuple[str, ...] = ()) -> ConversationSet:
    """The training set, its images in `images`; `lost` are the ids of samples whose loss is accepted."""
    return ConversationSet(
        kind="conversations",
        file=str(folder / "data.json"),
        images=str(images),
        accepted_losses=lost,
        licence="-",
        source="local",
    )
