"""Optimiser steps of both stages, each repeated on one batch."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from parrot.model.build import trainable
from tests.golden.model.reference import RELATIVE, read_json

# Stage and variant of each run that was recorded.
RUNS = {"stage1_nomoe": ("align", "nomoe"), "stage2_moe": ("tune", "main")}
BATCH = "b4"
RECIPE = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
CLIPPED_AT = 1.0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    folder: Path = metafunc.config.getoption("--golden") / "model"
    metafunc.parametrize("run", recorded(folder))


def recorded(folder: Path) -> dict[str, list[list[float]]]:
    """Loss, and gradient norm before clipping, of every step of each run."""
    (key,) = (key for key in read_json(folder / "results.json") if key.startswith("train_6_steps"))
    return read_json(folder / "results.json")[key]


def test_optimiser_steps(folder, load, load_case, run):
    stage, variant = RUNS[run]
    model = deepcopy(load(variant)).train()
    names = trainable(model, stage)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.AdamW([model.get_parameter(name) for name in names], **RECIPE)
    inputs = load_case(BATCH).model_inputs
    for loss, norm in recorded(folder)[run]:
        found = model(**inputs).loss
        found.backward()
        found_norm = nn.utils.clip_grad_norm_(model.parameters(), CLIPPED_AT)
        optimiser.step()
        optimiser.zero_grad()
        assert [found.item(), found_norm.item()] == pytest.approx([loss, norm], rel=RELATIVE)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(names)
