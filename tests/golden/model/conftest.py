"""The reference folder, and its models as the production import loads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import reference
from reference import Case, read_json, read_tensors
from safetensors.torch import save_file

from parrot.model import ParrotForConditionalGeneration, ParrotProcessor
from parrot.model.released import load_released

EXPERT = "model.moe_model.experts."
GATE = "model.moe_model.gate.weight"


@pytest.fixture(scope="session")
def folder(golden: Path) -> Path:
    return golden / "model"


@pytest.fixture(scope="session")
def checkpoint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with the checkpoint and another configuration, by its name; of the experts only as many as that has."""

    def write(name: str) -> Path:
        config = read_json(folder / "variants" / f"{name}.config.json")
        copy = tmp_path_factory.mktemp(name) / "checkpoint"
        shutil.copytree(folder / "checkpoint", copy)
        shutil.copytree(folder / config["mm_vision_tower"], copy.parent / config["mm_vision_tower"])
        shutil.copyfile(folder / "variants" / f"{name}.config.json", copy / "config.json")
        weights, experts = dict(read_tensors(folder / "checkpoint/model.safetensors")), config["num_experts"]
        weights[GATE] = weights[GATE][:experts].clone()
        left = {key: value for key, value in weights.items() if expert(key) < experts}
        save_file(left, copy / "model.safetensors", metadata={"format": "pt"})
        return copy

    return cache(write)


def expert(name: str) -> int:
    """The number of the expert that a tensor belongs to; -1 where it belongs to none."""
    return int(name.removeprefix(EXPERT).split(".")[0]) if name.startswith(EXPERT) else -1


@pytest.fixture(scope="session")
def load(checkpoint: Callable[[str], Path]) -> Callable[[str], ParrotForConditionalGeneration]:
    """The model of a configuration, in evaluation mode; the same one every time, so copy it before changing it."""
    return cache(lambda name: load_released(checkpoint(name))[0])


@pytest.fixture(scope="session")
def processor(folder: Path) -> ParrotProcessor:
    return load_released(folder / "checkpoint")[1]


@pytest.fixture(scope="session")
def load_case(folder: Path, processor: ParrotProcessor) -> Callable[[str], Case]:
    """A batch by its name."""
    return cache(lambda batch: reference.case(folder, batch, processor))
