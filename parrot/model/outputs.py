"""What the models return: transformers' outputs and the router's weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


@dataclass
class ParrotModelOutputWithPast(BaseModelOutputWithPast):
    """Adds `router_weights`, (N_images, num_experts) float32; None without pictures or without experts."""

    router_weights: Tensor | None = None


@dataclass
class ParrotCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Adds `router_weights`, (N_images, num_experts) float32; None without pictures or without experts."""

    router_weights: Tensor | None = None
