"""The router: what weighs an image's experts.

Equations (H: visual tokens with the class token first, E: the prompt's text embeddings):
    a = softmax(H[0] E^T / sqrt(d)),  w = softmax(W_r (a E))
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from parrot.model.configuration_parrot import ParrotConfig


class RouterInputs(NamedTuple):
    """`router_mask`, `router_input_ids` and `language_ids` of `ParrotModel.forward`; `ParrotProcessor` makes them."""

    mask: Tensor | None = None
    ids: Tensor | None = None
    languages: Tensor | None = None

    def or_prompt(self, config: ParrotConfig, prompt: Tensor) -> RouterInputs:
        """Take `prompt`, (B, T), as mask where neither mask nor text is given and the router reads prompts whole."""
        default = self.mask is None and self.ids is None and config.router_text == "prompt"
        return self._replace(mask=prompt) if default else self

    def check(self, config: ParrotConfig, images: int) -> None:
        """ValueError where the router's kind needs what is not there."""
        if config.router == "shuffled_text" and self.ids is None:
            raise ValueError("router_input_ids: the router shuffled_text reads another sample's prompt for each image")
        if config.router == "text" and config.router_text == "user" and self.ids is None and self.mask is None:
            raise ValueError("router_mask: with router_text user it has to mark the user's words")
        if config.router == "language" and self.languages is None:
            known = ", ".join(config.languages)
            raise ValueError(f"language_ids: the router language needs each image's language, one of {known}")
        for name, value in (("router_input_ids", self.ids), ("language_ids", self.languages)):
            if value is not None and len(value) != images:
                raise ValueError(f"{name}: expected one row for each of {images} image(s), found {len(value)}")


class ParrotRouter(nn.Module):
    """Weighs the experts by the prompt as seen from the image's class token, or by what `config.router` says."""

    weight: nn.Parameter | None

    def __init__(self, config: ParrotConfig):
        super().__init__()
        self.kind = config.router
        self.num_experts = config.num_experts
        width = len(config.languages) if self.kind == "language" else config.text_config.hidden_size
        weight = None if self.kind == "uniform" else nn.Parameter(torch.empty(config.num_experts, width))
        self.register_parameter("weight", weight)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights from uniform distributions within 1/sqrt(fan_in)."""
        if self.weight is not None:
            uniform_by_fan_in(self.weight, self.weight.shape[-1], generator)

    def pool(self, class_token: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Attention-pooled text, one vector an image.

        Args:
            class_token: (N, d), the query.
            text: (N, T, d), keys and values: the text embeddings that each image's router reads.
            mask: (N, T) bool, the positions that may be read. Where there are none the result is 0.

        Returns:
            (N, d)
        """
        scores = torch.bmm(text, class_token.unsqueeze(-1)).squeeze(-1) / math.sqrt(class_token.shape[-1])
        scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
        attention = (scores.softmax(-1) * mask).to(text.dtype)
        return torch.bmm(attention.unsqueeze(1), text).squeeze(1)

    def forward(self, class_token: Tensor, text: Tensor, mask: Tensor, languages: Tensor | None) -> Tensor:
        """Expert probabilities (N, num_experts), float32, each row summing to 1.

        Args:
            class_token, text, mask: as in `pool`.
            languages: (N,), each image's language, for the router `language`.
        """
        if self.weight is None:
            return class_token.new_full((len(class_token), self.num_experts), 1 / self.num_experts, dtype=torch.float32)
        if self.kind == "language":
            assert languages is not None, "the model checks its inputs"
            return self.weight.T[languages].float().softmax(-1)
        read = class_token if self.kind == "image" else self.pool(class_token, text, mask)
        return F.linear(read, self.weight).float().softmax(-1)


def choose(probabilities: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Return the `top_k` likeliest experts of each row: indices and weights scaled to sum to 1, (N, top_k)."""
    weights, chosen = probabilities.topk(top_k, dim=-1)
    return chosen, weights / weights.sum(-1, keepdim=True)


def balance_loss(probabilities: Tensor, weights: Tensor) -> Tensor:
    """How unevenly images use the experts: num_experts x sum_e mean(weight_e) mean(probability_e).

    1 where all are used alike, num_experts where one does everything. Both arguments are (N, num_experts) and differ
    only where an image uses some of the experts. The form is the Switch Transformer's (equation 4) with a mixture's
    weights in the place of its shares of tokens.
    """
    return probabilities.shape[-1] * (weights.mean(0) * probabilities.mean(0)).sum()


def uniform_by_fan_in(tensor: Tensor, fan_in: int, generator: torch.Generator | None = None) -> None:
    """Draw uniformly within 1/sqrt(fan_in), torch's start of a linear layer; loaded weights are left as they are."""
    bound = 1 / math.sqrt(fan_in)
    init.uniform_(tensor, -bound, bound, generator=generator)
