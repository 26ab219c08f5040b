"""The expert block against its equations, written out sample by sample and expert by expert."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_model import tiny_config, tiny_model
from torch.nn.functional import silu

from parrot.model.experts import ParrotExpertBlock

BATCH, TEXT, VISUAL = 5, 7, 10


@pytest.fixture
def block() -> ParrotExpertBlock:
    torch.manual_seed(1)
    block = ParrotExpertBlock(tiny_config(moe_weight=0.3))
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    mask = torch.rand(BATCH, TEXT) < 0.6
    mask[:, 3] = True
    return torch.randn(BATCH, VISUAL, 16), torch.randn(BATCH, TEXT, 16), mask


def test_block_equals_its_equations(block, inputs):
    visual, text, mask = inputs
    guided, weights = block(visual, text, mask)
    for n in range(BATCH):
        h = visual[n]
        e = text[n][mask[n]]
        a = torch.softmax(h[0] @ e.T / math.sqrt(16), dim=0)
        w = torch.softmax(block.router.weight @ (a @ e), dim=0)
        expected = 0.3 * h
        for k in range(3):
            gate, up, down = block.experts.gate_proj[k], block.experts.up_proj[k], block.experts.down_proj[k]
            expected = expected + w[k] * ((silu(h @ gate.T) * (h @ up.T)) @ down)
        torch.testing.assert_close(weights[n], w)
        torch.testing.assert_close(guided[n], expected)


def test_masked_text_has_no_influence(block, inputs):
    visual, text, mask = inputs
    other = torch.where(mask.unsqueeze(-1), text, 1e3 * torch.randn_like(text))
    torch.testing.assert_close(block(visual, other, mask), block(visual, text, mask))


def test_router_weights_differ_between_texts(block, inputs):
    visual, text, mask = inputs
    weights = block(visual[:1].expand_as(visual), text, mask)[1]
    assert (weights[0] - weights[1]).abs().max() > 0.01


def test_without_readable_text_experts_weigh_the_same(block, inputs):
    visual, text, mask = inputs
    weights = block(visual, text, torch.zeros_like(mask))[1]
    torch.testing.assert_close(weights, torch.full((BATCH, 3), 1 / 3))


def test_router_weights_are_float32_in_bfloat16(block, inputs):
    visual, text, mask = inputs
    guided, weights = block.bfloat16()(visual.bfloat16(), text.bfloat16(), mask)
    assert guided.dtype == torch.bfloat16
    assert weights.dtype == torch.float32


def test_every_parameter_gets_a_gradient(block, inputs):
    block(*inputs)[0].square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_start_is_uniform_within_the_fan_in():
    model = tiny_model(expert_intermediate_size=64)
    block = model.model.expert_block
    bounds = {block.router.weight: 16, block.experts.gate_proj: 16, block.experts.up_proj: 16}
    bounds |= {block.experts.down_proj: 64, model.model.multi_modal_projector.linear_1.weight: 12}
    bounds |= {model.model.multi_modal_projector.linear_2.bias: 16}
    for parameter, fan_in in bounds.items():
        bound = 1 / math.sqrt(fan_in)
        largest = parameter.detach().abs().max().item()
        assert 0.8 * bound < largest <= bound
        assert parameter.detach().std().item() == pytest.approx(bound / math.sqrt(3), rel=0.4)


def test_start_of_single_expert_differs_from_the_next():
    gate = tiny_model().model.expert_block.experts.gate_proj
    assert (gate[0] - gate[1]).abs().max() > 0.1
