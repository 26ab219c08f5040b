"""Where pictures stand among a batch's tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def find(token: int, input_ids: Tensor | None, inputs_embeds: Tensor | None, embedding: nn.Embedding) -> Tensor:
    """(B, T) bool, where the image token is; without ids, where its own embedding is among `inputs_embeds`.

    ValueError for embeddings where the token has none.
    """
    if inputs_embeds is None:
        assert input_ids is not None, "the model checks its inputs"
        return input_ids == token
    if token >= embedding.num_embeddings:
        raise ValueError(f"inputs_embeds: the image token {token} has no embedding; pictures need input_ids")
    return (inputs_embeds == embedding(torch.tensor(token, device=inputs_embeds.device))).all(-1)


def rows(is_image: Tensor, images: int, length: int) -> Tensor:
    """The batch row of each of `images` pictures of `length` tokens, (images,).

    ValueError unless the image tokens fit the pictures.
    """
    counts = is_image.sum(-1).tolist()
    if sum(counts) != images * length or any(count % length for count in counts):
        raise ValueError(
            f"image tokens and pictures do not match: {images} picture(s) of {length} tokens each, "
            f"but the batch's samples have {counts} image tokens"
        )
    places = [row for row, count in enumerate(counts) for _ in range(count // length)]
    return torch.tensor(places, dtype=torch.long, device=is_image.device)
