"""What is new between the two backbones: the projector, and a router and its experts over the visual tokens.

Equations (H: visual tokens, w: the router's weights), by `residual`:
    released: G = sum_e w_e F_e(H) + moe_weight * H
    paper:    G = H + alpha * sum_e w_e F_e(H)    (equation 5)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.integrations.moe import _grouped_mm  # torch's, or transformers' own where that cannot be compiled

from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.router import ParrotRouter, choose, uniform_by_fan_in


class ProjectorLayer(nn.Linear):
    """A linear layer that keeps torch's initialisation, uniform within 1/sqrt(fan_in), whatever the model's is."""

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights from uniform distributions within 1/sqrt(fan_in)."""
        for tensor in (self.weight, self.bias):
            uniform_by_fan_in(tensor, self.in_features, generator)


class ParrotProjector(nn.Module):
    """From the vision encoder's width to the language model's: all that stage 1 trains.

    `linear`: one linear layer; `mlp2x_gelu`: Linear-GELU-Linear. Both with biases.
    """

    def __init__(self, config: ParrotConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.linear_1 = ProjectorLayer(config.vision_config.hidden_size, width)
        self.linear_2 = ProjectorLayer(width, width) if config.projector_type == "mlp2x_gelu" else None

    def forward(self, features: Tensor) -> Tensor:
        """Project features, (N, L, d_vision) -> (N, L, d)."""
        hidden = self.linear_1(features.to(self.linear_1.weight.dtype))
        return hidden if self.linear_2 is None else self.linear_2(F.gelu(hidden))


class ParrotExperts(nn.Module):
    """All experts' weights stacked, (num_experts, inner width, d), and their weighted sum.

    One expert is `down(silu(gate x) * up x)`, or `down(silu(up x))` where the type is `two_layer`; no biases.
    """

    gate_proj: nn.Parameter | None

    def __init__(self, config: ParrotConfig):
        super().__init__()
        shape = (config.num_experts, config.expert_intermediate_size, config.text_config.hidden_size)
        gated = config.expert_type == "gated"
        self.register_parameter("gate_proj", nn.Parameter(torch.empty(shape)) if gated else None)
        self.up_proj = nn.Parameter(torch.empty(shape))
        self.down_proj = nn.Parameter(torch.empty(shape))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights from uniform distributions within 1/sqrt(fan_in)."""
        _, inner, width = self.up_proj.shape
        if self.gate_proj is not None:
            uniform_by_fan_in(self.gate_proj, width, generator)
        uniform_by_fan_in(self.up_proj, width, generator)
        uniform_by_fan_in(self.down_proj, inner, generator)

    def forward(self, visual: Tensor, weights: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Weighted sum of all experts, or of k `chosen` ones, no others being computed.

        Args:
            visual: (N, L, d).
            weights: (N, num_experts), or (N, k) of the chosen.
            chosen: (N, k), the experts of each image.

        Returns:
            (N, L, d)
        """
        return self._all(visual, weights) if chosen is None else self._chosen(visual, weights, chosen)

    def _all(self, visual: Tensor, weights: Tensor) -> Tensor:
        """Every expert reads every visual token, so all gate (and up) products are one matrix product.

        Scaling the inner activations by the weights turns the weighted sum of the down products into one too.
        """
        inner = F.linear(visual, self.up_proj.flatten(0, 1))
        if self.gate_proj is None:
            inner = F.silu(inner)
        else:
            inner = F.silu(F.linear(visual, self.gate_proj.flatten(0, 1))) * inner
        inner = inner.unflatten(-1, self.up_proj.shape[:2]) * weights.to(inner.dtype)[:, None, :, None]
        return inner.flatten(-2) @ self.down_proj.flatten(0, 1)

    def _chosen(self, visual: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Images are sorted by expert, so that each projection is one grouped matrix product."""
        images, length, width = visual.shape
        experts, order = chosen.flatten().sort(stable=True)
        source = order // chosen.shape[1]
        present = experts[:, None] == torch.arange(len(self.up_proj), device=experts.device)
        ends = (present.sum(0) * length).cumsum(0).to(torch.int32)
        tokens = visual.index_select(0, source).flatten(0, 1)
        inner = self._grouped(tokens, self.up_proj.transpose(1, 2), ends)
        if self.gate_proj is None:
            inner = F.silu(inner)
        else:
            inner = F.silu(self._grouped(tokens, self.gate_proj.transpose(1, 2), ends)) * inner
        inner = inner * weights.flatten()[order].to(inner.dtype).repeat_interleave(length).unsqueeze(-1)
        outputs = self._grouped(inner, self.down_proj, ends).view(-1, length, width)
        return torch.zeros_like(visual).index_add(0, source, outputs)

    @staticmethod
    def _grouped(tokens: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        return _grouped_mm(tokens, weight.to(tokens.dtype), ends)  # autocast does not know grouped products


class Routed(NamedTuple):
    """Guided visual tokens (N, L, d), the experts' weights and the router's probabilities, (N, num_experts) float32.

    The weight of an expert that was not used is 0; weights differ from probabilities only where some are chosen.
    """

    visual: Tensor
    weights: Tensor
    probabilities: Tensor


class ParrotExpertBlock(nn.Module):
    """Router, experts and the residual; see the module's equations."""

    def __init__(self, config: ParrotConfig):
        super().__init__()
        self.router = ParrotRouter(config)
        self.experts = ParrotExperts(config)
        self.top_k = config.moe_top_k or config.num_experts
        self.residual = config.residual
        self.moe_weight = config.moe_weight
        self.alpha = config.alpha

    def forward(self, visual: Tensor, text: Tensor, mask: Tensor, languages: Tensor | None = None) -> Routed:
        """Guide visual tokens.

        Args:
            visual: (N, L, d), projected features of N images, class token first.
            text: (N, T, d), the text embeddings that each image's router reads.
            mask: (N, T) bool, the text positions that it may read.
            languages: (N,), each image's language, for the router `language`.

        Returns:
            Guided visual tokens (N, L, d), and the experts' weights and probabilities (N, num_experts), float32.
        """
        probabilities = self.router(visual[:, 0], text, mask, languages)
        if self.top_k == probabilities.shape[-1]:
            weights = probabilities
            experts = self.experts(visual, weights)
        else:
            chosen, kept = choose(probabilities, self.top_k)
            weights = torch.zeros_like(probabilities).scatter(-1, chosen, kept)
            experts = self.experts(visual, kept, chosen)
        if self.residual == "released":
            guided = torch.add(experts, visual, alpha=self.moe_weight)
        else:
            guided = torch.add(visual, experts, alpha=self.alpha)
        return Routed(guided, weights, probabilities)
