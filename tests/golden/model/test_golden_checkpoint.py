"""The released checkpoint and its configurations, as they are imported."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig

from tests.golden.model.reference import read_json, read_tensors, released_names, variants

VISION = "model.vision_tower.vision_tower."
STAGES = {"stage1": "nomoe", "stage2": "main"}  # configurations that training starts from, and what they compute like


@pytest.fixture(scope="module")
def weights(folder):
    return read_tensors(folder / "checkpoint/model.safetensors")


def test_names_shapes_and_types(folder, weights):
    assert {name: [list(value.shape), str(value.dtype)] for name, value in weights.items()} == read_json(
        folder / "state_dict_keys.json"
    )
    info = read_json(folder / "results.json")["info"]
    assert info["n_state_dict"] == len(weights)
    assert info["n_params"] == sum(value.numel() for value in weights.values())


def test_every_tensor_is_imported(load, weights):
    model = load("main")
    imported = released_names(model.state_dict().items(), model.config)
    assert imported.keys() == weights.keys()
    assert all(torch.equal(imported[name], value) for name, value in weights.items())


def test_the_checkpoint_holds_the_vision_encoder(folder, weights):
    (tower,) = folder.glob("clip-*/model.safetensors")
    inside = {name.removeprefix(VISION): value for name, value in weights.items() if name.startswith(VISION)}
    alone = {name: value for name, value in read_tensors(tower).items() if not name.endswith("position_ids")}
    assert inside.keys() == alone.keys()
    assert all(torch.equal(inside[name], value) for name, value in alone.items())


@torch.no_grad()
def test_configurations(folder, load, load_case):
    """Every configuration file is a variant with stored numbers, or computes like one."""
    files = {path.name.removesuffix(".config.json") for path in (folder / "variants").iterdir()}
    assert files == {*variants(folder), *STAGES}
    for stage, variant in STAGES.items():
        losses = [model(**load_case("b4").model_inputs).loss for model in (load(stage), load(variant))]
        torch.testing.assert_close(*losses)
    main = read_json(folder / "variants/main.config.json")
    assert read_json(folder / "checkpoint/config.json") == main


def test_the_language_model_is_the_base_model(folder, load):
    base = AutoConfig.for_model(**read_json(folder / "qwen_base_config.json"))
    config = load("main").config.text_config
    fixed = {"architectures", "transformers_version", "dtype", "_name_or_path", "bos_token_id", "eos_token_id"}
    names = base.to_dict().keys() - fixed
    assert {name: getattr(config, name) for name in names} == {name: getattr(base, name) for name in names}


def test_how_generation_ends(folder, load, processor):
    stated = read_json(folder / "checkpoint/generation_config.json")
    config = load("main").generation_config
    assert config.eos_token_id == stated["eos_token_id"] == processor.tokenizer.eos_token_id
    assert stated["bos_token_id"] == processor.tokenizer.pad_token_id
