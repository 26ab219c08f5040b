"""The projector from the vision encoder's width to the language model's: all that stage 1 trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.router import uniform_by_fan_in


class ProjectorLayer(nn.Linear):
    """A linear layer that keeps torch's start, uniform within 1/sqrt(fan_in), whatever the model's default is."""

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        for tensor in (self.weight, self.bias):
            uniform_by_fan_in(tensor, self.in_features, generator)


class ParrotProjector(nn.Module):
    """`linear`: one linear layer; `mlp2x_gelu`: Linear-GELU-Linear. Both with biases."""

    def __init__(self, config: ParrotConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.linear_1 = ProjectorLayer(config.vision_config.hidden_size, width)
        self.linear_2 = ProjectorLayer(width, width) if config.projector_type == "mlp2x_gelu" else None

    def forward(self, features: Tensor) -> Tensor:
        """(N, L, d_vision) -> (N, L, d)"""
        hidden = self.linear_1(features.to(self.linear_1.weight.dtype))
        return hidden if self.linear_2 is None else self.linear_2(F.gelu(hidden))
