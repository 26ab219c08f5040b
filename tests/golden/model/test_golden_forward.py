"""Every stored quantity of a forward pass, in every variant: features, routing, experts, merging, logits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from parrot.model import ParrotForConditionalGeneration
from tests.golden.model.reference import (
    EMBEDDINGS,
    IGNORED,
    LOGITS,
    Case,
    close,
    golden,
    language_model_inputs,
    read_json,
    read_tensors,
    stored,
)
from tests.golden.model.released_way import guide

COLUMN_STEP = 29  # `logits_sub` holds every 29th column
HALF = {"rtol": 1e-3, "atol": 1e-5}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden") / "model"
    names = {"name": stored(folder), "batch": sorted({(variant, batch) for variant, batch, _ in stored(folder)})}
    for argument, values in names.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, values, ids=[".".join(value) for value in values])


@pytest.fixture(scope="module")
def computed(load, load_case) -> Callable[[str, str], dict[str, Tensor]]:
    """What this model makes of a batch, under the stored names."""
    return cache(
        lambda variant, batch: {**forward(load(variant), load_case(batch)), **slots(load(variant), load_case(batch))}
    )


@torch.no_grad()
def forward(model: ParrotForConditionalGeneration, case: Case) -> dict[str, Any]:
    """A forward pass with labels."""
    with language_model_inputs(model) as seen:
        output = model(**case.model_inputs)
    return {
        "inputs_embeds": seen["inputs_embeds"],
        "new_attention_mask": seen["attention_mask"].bool(),
        "position_ids": seen["position_ids"],
        "new_labels": case.inputs["labels"],
        "logits": output.logits,
        "logits_sub": output.logits[..., ::COLUMN_STEP],
        "logits_lse": output.logits.logsumexp(-1),
        "imaged_router_weights": output.router_weights,
    }


def questions(case: Case, is_image: Tensor) -> Tensor:
    """The text that is not supervised, (B, T)."""
    return case.inputs["attention_mask"].bool() & (case.inputs["labels"] == IGNORED) & ~is_image


@torch.no_grad()
def slots(model: ParrotForConditionalGeneration, case: Case) -> dict[str, Tensor]:
    """What happens to every sample's image, the blank ones of samples of text alone among them."""
    image = model.get_image_features(case.slots)
    visual, block = image.pooler_output, model.model.expert_block
    is_image = case.inputs["input_ids"] == model.config.image_token_id
    text = model.get_input_embeddings()(case.inputs["input_ids"].masked_fill(is_image, 0))
    mask = questions(case, is_image)
    found = {
        "vision_features": image.last_hidden_state,
        "projected": visual,
        "moe_out": guide(model, visual, text, mask),
    }
    if block is not None:
        found["router_input"] = block.router.pool(visual[:, 0], text, mask)
        found["router_logits"] = F.linear(found["router_input"], block.router.weight)
        found["router_weights"] = found["router_logits"].softmax(-1)
    return found


def test_stored(folder, load_case, computed, name):
    variant, batch, quantity = name
    expected = read_tensors(golden(folder, variant))[f"{batch}.{quantity}"]
    found = computed(variant, batch)[quantity]
    assert found.shape == expected.shape
    real = load_case(batch).inputs["attention_mask"].bool()
    if expected.shape[:2] == real.shape and quantity not in ("new_attention_mask", "new_labels"):
        found, expected = found[real], expected[real]
    if expected.dtype == torch.float16:
        torch.testing.assert_close(found, expected.float(), **HALF)
    elif expected.is_floating_point():
        close(found, expected, LOGITS if quantity.startswith("logits") else EMBEDDINGS)
    else:
        assert torch.equal(found, expected)


def test_a_forward_pass_routes_as_its_modules_do(load_case, computed, batch):
    """The model itself routes the images there are, and no blank ones."""
    found = computed(*batch)
    with_image = load_case(batch[1]).with_image
    if "router_weights" not in found or not with_image.any():
        assert found["imaged_router_weights"] is None
    else:
        close(found["imaged_router_weights"], found["router_weights"][with_image], EMBEDDINGS)


def test_visual_tokens_stand_at_their_placeholders(load, load_case, computed, batch):
    case, found = load_case(batch[1]), computed(*batch)
    is_image = case.inputs["input_ids"] == load(batch[0]).config.image_token_id
    close(found["inputs_embeds"][is_image], found["moe_out"][case.with_image].flatten(0, 1), EMBEDDINGS)


def test_counts(folder, load, load_case, computed, batch):
    variant, name = batch
    stated = read_json(folder / "results.json")["variants"][variant]
    case = load_case(name)
    assert stated[f"{name}.logits_shape"] == list(computed(*batch)["logits"].shape)
    assert stated[f"{name}.moe_calls"] == len(case.with_image)
    is_image = case.inputs["input_ids"] == load(variant).config.image_token_id
    if f"{name}.n_question_tokens" in stated:
        assert stated[f"{name}.n_question_tokens"] == questions(case, is_image).sum(1).tolist()
