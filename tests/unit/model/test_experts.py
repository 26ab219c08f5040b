"""The expert block and its variants against their equations, written out sample by sample and expert by expert."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from parrot.model.experts import ParrotExpertBlock
from parrot.model.router import balance_loss
from tests.helpers.tiny_model import tiny_config, tiny_model

BATCH, TEXT, VISUAL, WIDTH, EXPERTS = 5, 7, 10, 16, 3
VARIANTS: list[dict[str, Any]] = [
    {},
    {"moe_weight": 0.0},
    {"residual": "paper", "alpha": 0.7},
    {"expert_type": "two_layer"},
    {"moe_top_k": 1},
    {"moe_top_k": 2},
    {"moe_top_k": 2, "expert_type": "two_layer", "residual": "paper"},
    {"moe_top_k": EXPERTS},
    {"router": "uniform"},
    {"router": "uniform", "moe_top_k": 1},
    {"router": "language", "languages": ["en", "zh", "pt", "ar"]},
    {"router": "image"},
    {"router": "shuffled_text"},
]


def make(**fields: Any) -> ParrotExpertBlock:
    torch.manual_seed(1)
    block = ParrotExpertBlock(tiny_config(**{"moe_weight": 0.3} | fields))
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


@pytest.fixture
def block() -> ParrotExpertBlock:
    return make()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    mask = torch.rand(BATCH, TEXT) < 0.6
    mask[:, 3] = True
    return torch.randn(BATCH, VISUAL, WIDTH), torch.randn(BATCH, TEXT, WIDTH), mask, torch.tensor([3, 0, 1, 1, 2])


def plain_weights(block: ParrotExpertBlock, h: Tensor, e: Tensor, language: int, kind: str) -> Tensor:
    if kind == "uniform":
        return torch.full((EXPERTS,), 1 / EXPERTS)
    if kind == "language":
        return torch.softmax(block.router.weight[:, language], dim=0)
    if kind == "image":
        return torch.softmax(block.router.weight @ h[0], dim=0)
    a = torch.softmax(h[0] @ e.T / math.sqrt(WIDTH), dim=0)
    return torch.softmax(block.router.weight @ (a @ e), dim=0)


def plain_expert(block: ParrotExpertBlock, k: int, h: Tensor, two_layer: bool) -> Tensor:
    up = h @ block.experts.up_proj[k].T
    inner = silu(up) if two_layer else silu(h @ block.experts.gate_proj[k].T) * up
    return inner @ block.experts.down_proj[k]


@pytest.mark.parametrize("fields", VARIANTS, ids=str)
def test_block_equals_its_equations(fields, inputs):
    block = make(**fields)
    visual, text, mask, languages = inputs
    guided, weights, probabilities = block(*inputs)
    for n, h in enumerate(visual):
        w = plain_weights(block, h, text[n][mask[n]], int(languages[n]), fields.get("router", "text"))
        torch.testing.assert_close(probabilities[n], w)
        used = sorted(range(EXPERTS), key=lambda k: -w[k].item())[: fields.get("moe_top_k", EXPERTS)]
        scale = sum(w[k] for k in used)
        experts = torch.zeros_like(h)
        for k in used:
            experts = experts + w[k] / scale * plain_expert(block, k, h, "expert_type" in fields)
        if fields.get("residual") == "paper":
            expected = h + fields.get("alpha", 1.0) * experts
        else:
            expected = experts + fields.get("moe_weight", 0.3) * h
        torch.testing.assert_close(guided[n], expected)
        torch.testing.assert_close(weights[n], torch.stack([w[k] / scale * (k in used) for k in range(EXPERTS)]))


@pytest.mark.parametrize("fields", [{}, {"expert_type": "two_layer"}], ids=str)
def test_some_experts_give_the_gradients_of_all_with_the_others_weights_at_zero(fields, inputs):
    block = make(moe_top_k=2, **fields)
    visual, *_ = inputs
    weights = block(*inputs).weights.detach()
    kept, chosen = weights.topk(2)
    torch.manual_seed(3)
    outer = torch.randn_like(visual)
    gradients = []
    for output in (block.experts(visual, kept, chosen), block.experts(visual, weights)):
        block.zero_grad()
        (output * outer).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in block.experts.named_parameters()})
    assert set(gradients[0]) >= {"up_proj", "down_proj"}
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, msg=name)


def test_an_expert_that_nobody_chose_gets_no_gradient(inputs):
    block = make(moe_top_k=1, router="language", languages=["en", "zh", "pt", "ar"])
    with torch.no_grad():
        block.router.weight[0] = -9.0
    block(*inputs).visual.square().sum().backward()
    assert not block.experts.up_proj.grad[0].any()
    assert block.experts.up_proj.grad[1:].any()


def test_masked_text_has_no_influence(block, inputs):
    visual, text, mask, _ = inputs
    other = torch.where(mask.unsqueeze(-1), text, 1e3 * torch.randn_like(text))
    torch.testing.assert_close(block(visual, other, mask), block(visual, text, mask))


def test_router_weights_differ_between_texts(block, inputs):
    visual, text, mask, _ = inputs
    weights = block(visual[:1].expand_as(visual), text, mask).weights
    assert (weights[0] - weights[1]).abs().max() > 0.01


def test_without_readable_text_experts_weigh_the_same(block, inputs):
    visual, text, mask, _ = inputs
    weights = block(visual, text, torch.zeros_like(mask)).weights
    torch.testing.assert_close(weights, torch.full((BATCH, EXPERTS), 1 / EXPERTS))


@pytest.mark.parametrize("fields", [{}, {"moe_top_k": 2}], ids=str)
def test_router_weights_are_float32_in_bfloat16(fields, inputs):
    visual, text, mask, _ = inputs
    guided, weights, _ = make(**fields).bfloat16()(visual.bfloat16(), text.bfloat16(), mask)
    assert guided.dtype == torch.bfloat16
    assert weights.dtype == torch.float32


def test_every_parameter_gets_a_gradient(block, inputs):
    block(*inputs).visual.square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("fields", [{}, {"moe_top_k": 2}, {"router": "language", "residual": "paper"}], ids=str)
def test_block_compiles_without_graph_breaks(fields, inputs):
    torch._dynamo.reset()
    block = make(**fields)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), block(*inputs))


def test_balance_loss():
    even, one = torch.eye(4), torch.tensor([[1.0, 0, 0, 0]] * 4)
    assert balance_loss(even, even).item() == 1
    assert balance_loss(one, one).item() == 4
    probabilities = torch.tensor([[0.6, 0.4], [0.9, 0.1]])
    weights = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert balance_loss(probabilities, weights).item() == pytest.approx(2 * 1.0 * 0.75)


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"moe_top_k": 4}, "moe_top_k: expected 1 to 3"),
        ({"moe_top_k": 0}, "moe_top_k: expected 1 to 3"),
        ({"vision_feature_layer": 77}, "vision_feature_layer: expected -[0-9] to [0-9], for the encoder's"),
        ({"vision_feature_layer": -77}, "vision_feature_layer: expected -[0-9] to [0-9], for the encoder's"),
        ({"vision_feature_select": "patch"}, "vision_feature_select: patch leaves the experts' router"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)
