"""Losses and gradients of every batch in every variant, and the parameters that each stage trains."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from parrot.model.build import trainable
from tests.golden.model.reference import (
    LOGITS,
    LOSS,
    RELATIVE,
    golden,
    group,
    read_json,
    read_tensors,
    released_names,
    stored,
)

NAMED = {"tune": "stage2", "align": "stage1"}  # this project's stages by their released names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden") / "model"
    batches = sorted({(variant, batch) for variant, batch, _ in stored(folder)})
    stated = read_json(folder / "results.json")["variants"]
    eager = [batch for batch in batches if f"{batch[1]}.loss_eager" in stated[batch[0]]]
    for argument, values in {"batch": batches, "eager": eager}.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, values, ids=[".".join(value) for value in values])


@pytest.fixture(scope="module")
def backward(load, load_case):
    """Loss and gradients by their released names, in training mode with what stage 2 trains."""

    def compute(variant: str, batch: str) -> tuple[float, dict[str, Tensor]]:
        model = deepcopy(load(variant)).train()
        trainable(model, "tune")
        loss = model(**load_case(batch).model_inputs).loss
        loss.backward()
        gradients = ((name, tensor.grad) for name, tensor in model.named_parameters() if tensor.grad is not None)
        return loss.item(), released_names(gradients, model.config)

    return cache(compute)


def test_loss(folder, load, load_case, backward, batch):
    variant, name = batch
    stated = read_json(folder / "results.json")["variants"][variant]
    assert backward(variant, name)[0] == pytest.approx(stated[f"{name}.loss"], rel=0, abs=LOSS)
    with torch.no_grad():
        evaluated = load(variant)(**load_case(name).model_inputs).loss.item()
    assert evaluated == pytest.approx(stated[f"{name}.loss_eval"], rel=0, abs=LOSS)


@torch.no_grad()
def test_attention_written_out(folder, load, load_case, eager):
    """`eager` and `sdpa` attention agree, here as there."""
    variant, name = eager
    stated = read_json(folder / "results.json")["variants"][variant]
    written_out = deepcopy(load(variant))
    written_out.set_attn_implementation("eager")
    inputs = load_case(name).model_inputs
    outputs = [model(**inputs) for model in (written_out, load(variant))]
    assert outputs[0].loss.item() == pytest.approx(stated[f"{name}.loss_eager"], rel=0, abs=LOSS)
    real = inputs["attention_mask"].bool()
    assert (outputs[0].logits - outputs[1].logits)[real].abs().max() < LOGITS
    assert stated[f"{name}.max_abs_diff_logits_eager_vs_sdpa_attended"] < LOGITS


def test_gradient_norms(folder, backward, batch):
    variant, name = batch
    stated = read_json(folder / "results.json")["variants"][variant][f"{name}.grads"]
    _, gradients = backward(variant, name)
    expected = {tensor: values for tensor, values in stated["norm_and_first3"].items() if values is not None}
    assert gradients.keys() == expected.keys()
    for tensor, (norm, *first) in expected.items():
        found = gradients[tensor]
        assert found.norm().item() == pytest.approx(norm, rel=RELATIVE), tensor
        assert found.flatten()[:3].tolist() == pytest.approx(first, rel=RELATIVE, abs=1e-6 * norm), tensor
    total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()
    assert total == pytest.approx(stated["total_norm"], rel=RELATIVE)


def test_whole_gradients(folder, backward, batch):
    variant, name = batch
    expected = group(golden(folder, variant), f"{name}.grad")
    _, gradients = backward(variant, name)
    for tensor, value in expected.items():
        assert (gradients[tensor] - value).norm() <= RELATIVE * value.norm(), tensor


def test_some_whole_gradients_are_there(folder):
    assert any(".grad." in name for name in read_tensors(golden(folder, "main")))


@pytest.mark.parametrize("stage", NAMED)
def test_trained_parameters(folder, load, stage):
    stated = read_json(folder / "trainable.json")
    model = deepcopy(load("main"))
    names = trainable(model, stage)
    trained = released_names(((name, model.get_parameter(name)) for name in names), model.config)
    rest = ((name, tensor) for name, tensor in model.named_parameters() if name not in names)
    frozen = released_names(rest, model.config)
    assert trained.keys() == set(stated[NAMED[stage]])
    assert frozen.keys() == set(stated[f"{NAMED[stage]}_frozen"])
    assert sum(tensor.numel() for tensor in trained.values()) == stated[f"{NAMED[stage]}_numel"]
