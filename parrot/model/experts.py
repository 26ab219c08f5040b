"""The text-guided expert block: a router that reads the prompt, and gated experts over the visual tokens.

Equations (the released code's; H: visual tokens with the class token first, E: the prompt's text embeddings):
    a = softmax(H[0] E^T / sqrt(d)),  w = softmax(W_r (a E)),  G = sum_e w_e F_e(H) + moe_weight * H
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from parrot.model.configuration import ParrotConfig


class ParrotRouter(nn.Module):
    """Weights the experts by what the prompt says, as seen from the picture's class token."""

    def __init__(self, config: ParrotConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.text_config.hidden_size))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        uniform_by_fan_in(self.weight, self.weight.shape[-1], generator)

    def pool(self, class_token: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Attention-pooled text, one vector a picture.

        Args:
            class_token: (N, d), the query.
            text: (N, T, d), keys and values: the embeddings of each picture's own sample.
            mask: (N, T) bool, the positions that may be read. Where there are none the result is 0.
        Returns:
            (N, d)
        """
        scores = torch.bmm(text, class_token.unsqueeze(-1)).squeeze(-1) / math.sqrt(class_token.shape[-1])
        scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
        attention = (scores.softmax(-1) * mask).to(text.dtype)
        return torch.bmm(attention.unsqueeze(1), text).squeeze(1)

    def forward(self, class_token: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Expert weights (N, num_experts), float32, each row summing to 1; arguments as in `pool`."""
        return F.linear(self.pool(class_token, text, mask), self.weight).float().softmax(-1)


class ParrotExperts(nn.Module):
    """All experts' weights stacked: `down(silu(gate x) * up x)` without biases, and their weighted sum.

    Every expert reads every visual token, so all gate (and up) products are one matrix product. Scaling the inner
    activations by the router's weights turns the weighted sum of the down products into a single product too.
    """

    def __init__(self, config: ParrotConfig):
        super().__init__()
        shape = (config.num_experts, config.expert_intermediate_size, config.text_config.hidden_size)
        self.gate_proj = nn.Parameter(torch.empty(shape))
        self.up_proj = nn.Parameter(torch.empty(shape))
        self.down_proj = nn.Parameter(torch.empty(shape))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        _, inner, width = self.gate_proj.shape
        uniform_by_fan_in(self.gate_proj, width, generator)
        uniform_by_fan_in(self.up_proj, width, generator)
        uniform_by_fan_in(self.down_proj, inner, generator)

    def forward(self, visual: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the experts: visual (N, L, d), weights (N, num_experts) -> (N, L, d)."""
        inner = F.silu(F.linear(visual, self.gate_proj.flatten(0, 1))) * F.linear(visual, self.up_proj.flatten(0, 1))
        inner = inner.unflatten(-1, self.gate_proj.shape[:2]) * weights.to(inner.dtype)[:, None, :, None]
        return inner.flatten(-2) @ self.down_proj.flatten(0, 1)


class ParrotExpertBlock(nn.Module):
    """Router, experts and the residual; see the module's equations."""

    def __init__(self, config: ParrotConfig):
        super().__init__()
        self.router = ParrotRouter(config)
        self.experts = ParrotExperts(config)
        self.moe_weight = config.moe_weight

    def forward(self, visual: Tensor, text: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Guide visual tokens by text.

        Args:
            visual: (N, L, d), projected features of N pictures, class token first.
            text: (N, T, d), text embeddings of each picture's sample.
            mask: (N, T) bool, the text positions that the router may read.
        Returns:
            guided visual tokens (N, L, d) and the expert weights (N, num_experts), float32.
        """
        weights = self.router(visual[:, 0], text, mask)
        return self.experts(visual, weights) + self.moe_weight * visual, weights


def uniform_by_fan_in(tensor: Tensor, fan_in: int, generator: torch.Generator | None = None) -> None:
    """Draw uniformly within 1/sqrt(fan_in), torch's start of a linear layer; loaded weights are left as they are."""
    bound = 1 / math.sqrt(fan_in)
    init.uniform_(tensor, -bound, bound, generator=generator)
