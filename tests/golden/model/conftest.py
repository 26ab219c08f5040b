"""The reference folder, and its models as the production import loads them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from parrot.data import conversations
from parrot.model import ParrotForConditionalGeneration, ParrotProcessor
from parrot.model.convert import load_released
from tests.golden.model import reference
from tests.golden.model.reference import Case, read_json, read_tensors

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


@pytest.fixture(scope="session")
def rows(
    folder: Path, processor: ParrotProcessor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Training's rows by their ids. Images that cannot be read are replaced by the released code's stand-in."""
    images = tmp_path_factory.mktemp("images")
    samples = read_json(folder / "data.json")
    for name in {sample["image"] for sample in samples if "image" in sample}:
        if (folder / "images" / name).is_file():
            shutil.copyfile(folder / "images" / name, images / name)
        else:
            reference.mean_colour(processor).save(images / name, format="PNG")
    entry = reference.conversation_set(folder, images)
    return {row["id"]: row for row in conversations.load((entry,), processor, tmp_path_factory.mktemp("cache"), 2048)}
