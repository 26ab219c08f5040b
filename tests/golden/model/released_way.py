"""How the released code merges text and images, done with this model's own modules.

It shows what the released outcome is where this model differs on purpose, and that nothing else differs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parrot.model import ParrotForConditionalGeneration
from tests.golden.model.reference import IGNORED, RELEASED_IMAGE_TOKEN


class Merged(NamedTuple):
    """What the language model is given: (B, T, d), and (B, T) the others; padding is 0, False, -100 and 0."""

    inputs_embeds: Tensor
    attention_mask: Tensor
    labels: Tensor
    position_ids: Tensor


@torch.no_grad()
def merge(
    model: ParrotForConditionalGeneration,
    batch: dict[str, Tensor],
    images: Tensor,
    max_length: int | None = None,
    padding_side: str = "right",
) -> Merged:
    """Sample by sample: leave out what is masked, guide the slot's image by the questions, put it in its place.

    A sample takes as many slots of `images` as it has images, but at least one. Only its first image is guided;
    the others stay zeros. What is longer than `max_length` is cut off after the merging.
    """
    visual = model.model.multi_modal_projector(model.encode_images(images))
    rows, slot = [], 0
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        embeds, merged_labels, images = merge_sample(model, ids[mask], labels[mask], visual[slot : slot + 1])
        rows.append((embeds[:max_length], merged_labels[:max_length]))
        slot += max(images, 1)
    lengths = [len(labels) for _, labels in rows]

    def padded(columns: list[Tensor], value: float) -> Tensor:
        return pad_sequence(columns, batch_first=True, padding_value=value, padding_side=padding_side)

    return Merged(
        padded([embeds for embeds, _ in rows], 0),
        padded([torch.ones(length, dtype=torch.bool) for length in lengths], False),
        padded([labels for _, labels in rows], IGNORED),
        padded([torch.arange(length) for length in lengths], 0),
    )


def merge_sample(
    model: ParrotForConditionalGeneration, ids: Tensor, labels: Tensor, visual: Tensor
) -> tuple[Tensor, Tensor, int]:
    """Embeddings and labels of one sample, and its number of images; visual: (1, 1 + P, d)."""
    is_image = ids == RELEASED_IMAGE_TOKEN
    text = model.get_input_embeddings()(ids[~is_image])
    guided = guide(model, visual, text[None], (labels[~is_image] == IGNORED)[None])[0]
    blocks = iter([guided] + [torch.zeros_like(guided)] * len(ids))
    embeds, new_labels, read = [], [], 0
    for image, label in zip(is_image.tolist(), labels, strict=True):
        if image:
            embeds.append(next(blocks))
            new_labels.append(torch.full((len(guided),), IGNORED))
        else:
            embeds.append(text[read : read + 1])
            new_labels.append(label[None])
            read += 1
    return torch.cat(embeds), torch.cat(new_labels), int(is_image.sum())


def guide(model: ParrotForConditionalGeneration, visual: Tensor, text: Tensor, mask: Tensor) -> Tensor:
    """Visual tokens as the experts leave them, as they are where there are none; see `ParrotExpertBlock.forward`."""
    block = model.model.expert_block
    return visual if block is None else block(visual, text, mask)[0]
