"""Parrot's equations written out sample by sample and expert by expert: what the model has to equal, and to beat."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parrot.constants import IGNORE_INDEX
from parrot.model import ParrotForConditionalGeneration


class PlainParrot(nn.Module):
    """The released default (text router, gated experts, residual `released`) with a given model's weights.

    Backbones and projector are the model's own modules; every expert is three linear layers with copies of its slices.
    One image a sample.
    """

    def __init__(self, model: ParrotForConditionalGeneration):
        super().__init__()
        self.config = model.config
        self.vision_tower = model.model.vision_tower
        self.projector = model.model.multi_modal_projector
        self.language_model = model.model.language_model
        self.lm_head = model.lm_head
        block = model.model.expert_block
        self.router = nn.Parameter(block.router.weight.detach().clone())
        stacked = zip(block.experts.gate_proj, block.experts.up_proj, block.experts.down_proj.mT, strict=True)
        self.experts = nn.ModuleList(nn.ModuleList(map(_linear, weights)) for weights in stacked)

    def forward(self, input_ids: Tensor, labels: Tensor, pixel_values: Tensor) -> Tensor:
        """Mean loss over the supervised positions of a batch without padding."""
        total = torch.zeros((), device=input_ids.device)
        for ids, targets, pixels in zip(input_ids, labels, pixel_values, strict=True):
            hidden = self.language_model(inputs_embeds=self._embed(ids, targets, pixels)[None], use_cache=False)
            logits = self.lm_head(hidden.last_hidden_state[0]).float()
            total = total + F.cross_entropy(logits[:-1], targets[1:], ignore_index=IGNORE_INDEX, reduction="sum")
        return total / (labels[:, 1:] != IGNORE_INDEX).sum()

    def _embed(self, ids: Tensor, targets: Tensor, pixels: Tensor) -> Tensor:
        """(T, d): one sample's text embeddings with its guided visual tokens in their place."""
        is_text = ids != self.config.image_token_id
        text = self.language_model.embed_tokens(ids[is_text])
        prompt = text[targets[is_text] == IGNORE_INDEX]
        guided = self._guide(self._project(pixels), prompt)
        start = int((~is_text).int().argmax())
        return torch.cat([text[:start], guided, text[start:]])

    def _project(self, pixels: Tensor) -> Tensor:
        outputs = self.vision_tower(pixels[None], output_hidden_states=True)
        features = outputs.hidden_states[self.config.vision_feature_layer][0]
        return self.projector.linear_2(F.gelu(self.projector.linear_1(features)))

    def _guide(self, visual: Tensor, prompt: Tensor) -> Tensor:
        """H (1 + P, d) and E (prompt's length, d) -> G (1 + P, d)."""
        attention = torch.softmax(visual[0] @ prompt.T / math.sqrt(len(visual[0])), dim=-1)
        weights = torch.softmax(self.router @ (attention @ prompt), dim=-1)
        guided = self.config.moe_weight * visual
        for weight, (gate, up, down) in zip(weights, self.experts, strict=True):
            guided = guided + weight * down(F.silu(gate(visual)) * up(visual))
        return guided


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    return layer
