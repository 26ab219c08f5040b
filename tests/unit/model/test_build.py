"""Models from backbone folders, stages, projectors and saved runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPVisionModel,
    Qwen2ForCausalLM,
)

from parrot.config.settings import ExpertSettings
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.errors import UserError
from parrot.model import (
    ParrotConfig,
    ParrotForConditionalGeneration,
    ParrotImageProcessor,
    ParrotModel,
    ParrotProcessor,
)
from parrot.model.build import build, projector_sha256, save_projector, trainable
from parrot.model.checkpoint import load, load_parrot
from tests.helpers.tiny_model import CLOSE, collate, images, row, tiny_config, tiny_processor, tiny_tokenizer
from tests.helpers.tiny_training import common_settings


@pytest.fixture(scope="module")
def backbones(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("backbones")
    config = tiny_config(text={"tie_word_embeddings": True})
    torch.manual_seed(11)
    CLIPVisionModel(config.vision_config).save_pretrained(folder / "clip")
    tiny_processor().image_processor.save_pretrained(folder / "clip")
    Qwen2ForCausalLM(config.text_config).save_pretrained(folder / "qwen")
    tiny_tokenizer().save_pretrained(folder / "qwen")
    return folder / "clip", folder / "qwen"


@pytest.fixture
def align(backbones) -> AlignSettings:
    return AlignSettings(**common_settings(backbones))


def tune(backbones, seed: int = 0, num_experts: int = 2) -> TuneSettings:
    sizes = {"num_experts": num_experts, "expert_intermediate_size": 8, "moe_weight": 0.25}
    return TuneSettings(**common_settings(backbones, seed), experts=ExpertSettings(**sizes), validation=())


def test_build_takes_the_backbones_weights(align, backbones):
    model, processor = build(align)
    vision, language = (load_file(folder / "model.safetensors") for folder in backbones)
    state = model.model.vision_tower.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in vision.items())
    assert torch.equal(model.lm_head.weight, language["model.embed_tokens.weight"])
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.config.num_experts == 0
    assert model.model.expert_block is None
    assert processor.num_image_tokens == 10
    assert processor.image_token_id == model.config.image_token_id
    assert model.generation_config.eos_token_id == processor.tokenizer.eos_token_id


def test_build_takes_the_settings(backbones):
    config = build(tune(backbones, num_experts=4))[0].config
    assert (config.num_experts, config.expert_intermediate_size, config.moe_weight) == (4, 8, 0.25)


def test_the_start_is_the_seed_s_alone(backbones):
    torch.manual_seed(1)
    first, _ = build(tune(backbones, seed=5))
    torch.manual_seed(2)
    again, _ = build(tune(backbones, seed=5))
    other, _ = build(tune(backbones, seed=6))
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    assert projector_sha256(first) == projector_sha256(again) != projector_sha256(other)
    for name in ("router.weight", "experts.gate_proj", "experts.up_proj", "experts.down_proj"):
        start = first.get_parameter(f"model.expert_block.{name}")
        assert not torch.equal(start, other.get_parameter(f"model.expert_block.{name}"))
        bound = (8 if "down" in name else 16) ** -0.5
        assert 0.8 * bound < start.abs().max().item() <= bound


def test_stages_train_what_the_paper_says(align, backbones):
    model, _ = build(align)
    names = trainable(model, "align")
    assert names == [f"model.multi_modal_projector.linear_{n}.{kind}" for n in (1, 2) for kind in ("bias", "weight")]
    model, _ = build(tune(backbones))
    names = trainable(model, "tune")
    every = {name for name, _ in model.named_parameters()}
    assert every - set(names) == {name for name in every if name.startswith("model.vision_tower.")}
    assert {name.split(".")[1] for name in names} == {"multi_modal_projector", "expert_block", "language_model"}


def test_the_projector_goes_from_stage_to_stage(align, backbones, tmp_path):
    model, _ = build(align)
    for parameter in model.model.multi_modal_projector.parameters():
        torch.nn.init.normal_(parameter)
    save_projector(model, tmp_path / "projector")
    assert sorted(path.name for path in (tmp_path / "projector").iterdir()) == ["config.json", "model.safetensors"]
    tuned, _ = build(tune(backbones), tmp_path / "projector")
    assert projector_sha256(tuned) == projector_sha256(model)
    expected = model.model.multi_modal_projector.linear_2.weight
    assert torch.equal(tuned.model.multi_modal_projector.linear_2.weight, expected)
    with torch.no_grad():
        tuned.model.multi_modal_projector.linear_1.bias[0] += 1e-6
    assert projector_sha256(tuned) != projector_sha256(model)


def test_a_projector_that_does_not_fit_is_named(align, backbones, tmp_path):
    with pytest.raises(UserError, match=r"projector: no model\.safetensors"):
        build(align, tmp_path / "projector")
    save_projector(build(align)[0], tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["linear_1.weight"] = state["linear_1.weight"][:, :5].contiguous()
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"linear_1\.weight: expected a tensor of shape \(16, 12\), found \(16, 5\)"):
        build(align, tmp_path)


def test_save_and_load(backbones, tmp_path):
    model, processor = build(tune(backbones))
    model.save_pretrained(tmp_path, save_original_format=False)
    processor.save_pretrained(tmp_path)
    loaded, loaded_processor = load(tmp_path)
    assert not loaded.training
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    token = model.config.image_token_id
    batch = collate([[token if id_ >= 300 else id_ % 256 for id_ in row(5, "image", 9)]])
    with torch.no_grad():
        logits = [m(**batch, pixel_values=images(1)).logits for m in (model, loaded)]
    torch.testing.assert_close(*logits, **CLOSE)
    assert loaded_processor.image_token_id == token
    assert loaded_processor.num_image_tokens == processor.num_image_tokens


def test_auto_classes(backbones, tmp_path):
    model, processor = build(tune(backbones))
    model.save_pretrained(tmp_path, save_original_format=False)
    processor.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is ParrotConfig
    assert type(AutoModel.from_pretrained(tmp_path)) is ParrotModel
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path)) is ParrotForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(tmp_path)) is ParrotProcessor
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is ParrotImageProcessor
    assert "auto_map" not in json.loads((tmp_path / "config.json").read_text())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "no such model folder"),
        ([], r"no config\.json"),
        (["config.json"], r"no model\.safetensors"),
        (["config.json", "pytorch_model.bin"], r"no model\.safetensors"),
    ],
)
def test_a_folder_that_is_no_model_is_one_clear_line(tmp_path, files, message):
    folder = tmp_path / "model"
    for name in files or []:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    if files == []:
        folder.mkdir()
    with pytest.raises(UserError, match=rf"model: {message}") as error:
        load_parrot(folder)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_whole_are_one_clear_line(backbones, tmp_path):
    model, processor = build(tune(backbones))
    model.save_pretrained(tmp_path, save_original_format=False)
    processor.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    del state["model.expert_block.experts.up_proj"]
    save_file(state, weights, metadata={"format": "pt"})
    expected = r"model\.expert_block\.experts\.up_proj: expected \(2, 8, 16\) by config\.json, found nothing"
    with pytest.raises(UserError, match=expected):
        load_parrot(tmp_path)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="the weights cannot be read") as error:
        load_parrot(tmp_path)
    assert "\n" not in str(error.value)
