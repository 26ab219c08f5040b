"""What the models return: transformers' outputs and what the router did."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast


@dataclass
class ParrotModelOutputWithPast(BaseModelOutputWithPast):
    """Adds `router_weights`, (N_images, num_experts) float32, 0 for an expert that was not used; and
    `router_balance`, the load-balancing loss before its coefficient. Both None without pictures or without experts."""

    router_weights: Tensor | None = None
    router_balance: Tensor | None = None


@dataclass
class ParrotCausalLMOutputWithPast(CausalLMOutputWithPast):
    """Adds `router_weights` and `router_balance`, as in `ParrotModelOutputWithPast`."""

    router_weights: Tensor | None = None
    router_balance: Tensor | None = None
