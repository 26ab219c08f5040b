"""The projector from the vision encoder's width to the language model's: all that stage 1 trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parrot.model.configuration import ParrotConfig
from parrot.model.experts import uniform_by_fan_in


class ParrotProjector(nn.Module):
    """`linear`: one linear layer; `mlp2x_gelu`: Linear-GELU-Linear. Both with biases."""

    def __init__(self, config: ParrotConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.linear_1 = nn.Linear(config.vision_config.hidden_size, width)
        self.linear_2 = nn.Linear(width, width) if config.projector_type == "mlp2x_gelu" else None

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        for layer in (self.linear_1, self.linear_2):
            if layer is not None:
                uniform_by_fan_in(layer.weight, layer.in_features, generator)
                uniform_by_fan_in(layer.bias, layer.in_features, generator)

    def forward(self, features: Tensor) -> Tensor:
        """(N, L, d_vision) -> (N, L, d)"""
        hidden = self.linear_1(features)
        return hidden if self.linear_2 is None else self.linear_2(F.gelu(hidden))
