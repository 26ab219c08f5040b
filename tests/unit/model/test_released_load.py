"""Released checkpoints as models: weights by name, what config.json means, and what is refused before loading."""

from __future__ import annotations

import json
import os
import pickle
import socket
from pathlib import Path

import pytest
import torch

from parrot.errors import UserError
from parrot.model import ParrotConfig, ParrotForConditionalGeneration
from parrot.model.checkpoint import load as load_any
from parrot.model.checkpoint import model_type
from parrot.model.convert import load_released
from tests.helpers.released_folders import (
    WEIGHTS,
    change,
    cut_to_three_experts,
    read,
    released_copy,
    save,
    shard,
    tensors,
)

EXPERT = "model.moe_model.experts.4.down_proj.weight"


@pytest.fixture
def folder(golden: Path, tmp_path: Path) -> Path:
    return released_copy(golden, tmp_path)


def load(folder: Path, **options) -> ParrotForConditionalGeneration:
    return load_released(folder, **options)[0]


def test_every_tensor_is_where_it_belongs(folder):
    state, released = load(folder).state_dict(), tensors(folder)
    config = read(folder / "config.json")
    seen = 0
    for name, tensor in state.items():
        if name.startswith("model.expert_block.experts."):
            kind = name.rpartition(".")[2]
            assert len(tensor) == config["num_experts"]
            for index, expert in enumerate(tensor):
                theirs = released[f"model.moe_model.experts.{index}.{kind}.weight"]
                assert torch.equal(expert, theirs.T if kind == "down_proj" else theirs), name
                seen += 1
            continue
        theirs = (
            name.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
            .replace("model.language_model.", "model.")
            .replace("model.multi_modal_projector.linear_1.", "model.mm_projector.0.")
            .replace("model.multi_modal_projector.linear_2.", "model.mm_projector.2.")
            .replace("model.expert_block.router.", "model.moe_model.gate.")
        )
        assert torch.equal(tensor, released[theirs]), name
        seen += 1
    assert seen == len(released)


def test_shards_give_the_same_model(folder):
    single = load(folder).state_dict()
    shard(folder)
    assert not (folder / WEIGHTS).exists()
    sharded = load(folder).state_dict()
    assert single.keys() == sharded.keys()
    assert all(torch.equal(tensor, sharded[name]) for name, tensor in single.items())


@pytest.mark.parametrize(
    ("released", "ours"),
    [
        ({}, {"num_experts": 6, "moe_weight": 0.1}),
        ({"moe_top_k": 2}, {"num_experts": 6, "moe_weight": 0.1}),
        ({"moe_weight": 1.0}, {"num_experts": 6, "moe_weight": 1.0}),
        ({"use_moe_residual": False}, {"num_experts": 6, "moe_weight": 0.0}),
        ({"use_moe": False}, {"num_experts": 0, "moe_weight": 0.1}),
    ],
)
def test_what_the_config_means(golden, tmp_path, released, ours):
    model = load(released_copy(golden, tmp_path, **released))
    assert {name: getattr(model.config, name) for name in ours} == ours
    assert (model.model.expert_block is None) == (ours["num_experts"] == 0)
    assert model.config.text_config.rope_parameters["rope_theta"] == 1e6
    assert model.config.released["config.json"]["moe_top_k"] == released.get("moe_top_k", 6)


def test_sizes_come_from_the_config(golden, tmp_path):
    folder = released_copy(golden, tmp_path, num_experts=3)
    save(folder, cut_to_three_experts(tensors(folder)))
    assert load(folder).model.expert_block.experts.down_proj.shape == (3, 64, 48)


def test_transformers_own_options(folder):
    assert load(folder, dtype="auto").dtype == torch.float32
    change(folder / "config.json", torch_dtype="bfloat16")
    assert load(folder).dtype == torch.float32
    assert load(folder, dtype="auto").dtype == torch.bfloat16
    model = load(folder, dtype=torch.float16, attn_implementation="eager")
    assert model.dtype == torch.float16
    assert model.config.text_config._attn_implementation == "eager"
    assert not model.training


def test_model_and_processor_fit(folder):
    model, processor = load_released(folder)
    assert processor.image_token_id == model.config.image_token_id == 589
    assert processor.num_image_tokens == model.config.num_image_tokens == 17
    assert model.generation_config.eos_token_id == 588
    assert model.generation_config.pad_token_id == 586
    assert model.get_input_embeddings().weight.shape == (600, 48)
    assert processor.image_processor.image_aspect_ratio == "pad"
    change(folder / "config.json", image_aspect_ratio="square")
    assert load_released(folder)[1].image_processor.image_aspect_ratio == "crop"


def test_where_the_vision_tower_is_looked_for(folder, tmp_path):
    tower = tmp_path / "clip-vit-tiny-patch7-28"
    load(folder)
    tower.rename(folder / tower.name)
    load(folder)
    (folder / tower.name).rename(tmp_path / "elsewhere")
    model = load(folder, vision_tower=tmp_path / "elsewhere")
    assert model.config.vision_config.image_size == 28
    with pytest.raises(UserError, match="mm_vision_tower") as error:
        load(folder)
    for place in (folder, tmp_path):
        assert str(place / tower.name) in str(error.value)


def test_the_network_is_never_asked(folder, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_released(folder)
    change(folder / "config.json", mm_vision_tower="openai/clip-vit-large-patch14-336")
    with pytest.raises(UserError, match="mm_vision_tower"):
        load_released(folder)


def test_a_whole_clip_names_its_vision_part(folder, tmp_path):
    path = tmp_path / "clip-vit-tiny-patch7-28" / "config.json"
    path.write_text(json.dumps({"model_type": "clip", "vision_config": read(path), "text_config": {}}))
    assert load(folder).config.vision_config.image_size == 28


def without(folder: Path, name: str) -> None:
    save(folder, {other: tensor for other, tensor in tensors(folder).items() if other != name})


def put(folder: Path, **changed: torch.Tensor) -> None:
    save(folder, tensors(folder) | {name.replace("__", "."): tensor for name, tensor in changed.items()})


BROKEN = {
    "a missing expert": (
        lambda f: without(f, EXPERT),
        r"experts\.4\.down_proj\.weight: expected a tensor of shape \(48, 64\), found nothing",
    ),
    "a turned expert": (
        lambda f: save(f, tensors(f) | {EXPERT: tensors(f)[EXPERT].T}),
        r"experts\.4\.down_proj\.weight: expected a tensor of shape \(48, 64\), found \(64, 48\)",
    ),
    "an expert too many": (
        lambda f: put(f, model__moe_model__experts__6__up_proj__weight=torch.zeros(64, 48)),
        r"experts\.6\.up_proj\.weight: expected no such tensor",
    ),
    "an expert of another dtype": (
        lambda f: save(f, tensors(f) | {EXPERT: tensors(f)[EXPERT].half()}),
        r"experts\.4\.down_proj\.weight: expected F32 like .*experts\.0\.down_proj\.weight, found F16",
    ),
    "a missing head": (lambda f: without(f, "lm_head.weight"), r"lm_head\.weight: expected .* found nothing"),
    "more experts in the config": (
        lambda f: change(f / "config.json", num_experts=7),
        r"gate\.weight: expected a tensor of shape \(7, 48\), found \(6, 48\)",
    ),
    "a foreign tensor": (
        lambda f: put(f, model__image_newline=torch.zeros(48)),
        r"model\.image_newline: expected no such tensor, found one of shape \(48,\)",
    ),
    "a missing shard": (
        lambda f: (shard(f), (f / "model-00002-of-00003.safetensors").unlink()),
        r"model-00002-of-00003\.safetensors: named by model\.safetensors\.index\.json, but not there",
    ),
    "an index that names other tensors": (
        lambda f: (
            shard(f),
            change(
                f / f"{WEIGHTS}.index.json",
                weight_map=read(f / f"{WEIGHTS}.index.json")["weight_map"] | {"x": "model-00001-of-00003.safetensors"},
            ),
        ),
        r"index\.json: x: the index names model-00001-of-00003\.safetensors, but no file has it",
    ),
    "a cut file": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:5000]),
        r"model\.safetensors: the weights cannot be read",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"no model\.safetensors; expected safetensors weights"),
    "no tokenizer": (lambda f: [(f / n).unlink() for n in ("tokenizer.json", "vocab.json")], "no tokenizer.json"),
    "another projector": (
        lambda f: change(f / "config.json", mm_projector_type="mlp3x_gelu"),
        r"config\.json: mm_projector_type: expected 'linear' or 'mlp2x_gelu'",
    ),
    "several views an image": (
        lambda f: change(f / "config.json", image_aspect_ratio="anyres"),
        "image_aspect_ratio: expected pad or another single view, found anyres",
    ),
    "another encoder": (
        lambda f: change(f.parent / "clip-vit-tiny-patch7-28" / "config.json", model_type="siglip_vision_model"),
        r"config\.json: model_type: expected clip or clip_vision_model, found siglip_vision_model",
    ),
    "an encoder of other images": (
        lambda f: change(f.parent / "clip-vit-tiny-patch7-28" / "preprocessor_config.json", crop_size=56),
        r"preprocessor_config\.json: expected images of 3 x 28 x 28 by config\.json, found 3 x 56 x 56",
    ),
    "a cut tokenizer": (
        lambda f: (f / "tokenizer.json").write_bytes((f / "tokenizer.json").read_bytes()[:500]),
        r"tokenizer\.json: expected JSON",
    ),
    "no number of experts": (
        lambda f: (f / "config.json").write_text(
            json.dumps({k: v for k, v in read(f / "config.json").items() if k != "num_experts"})
        ),
        r"config\.json: num_experts: expected a value",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_first_wrong_thing_is_named_in_one_line(folder, case, monkeypatch):
    spoil, message = BROKEN[case]
    spoil(folder)
    monkeypatch.setattr(ParrotForConditionalGeneration, "_load_pretrained_model", None)  # nothing is loaded
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert str(folder.parent) in str(error.value)


class Bait:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_pickles_are_refused_and_the_line_says_how_to_convert(folder, tmp_path, monkeypatch):
    state = tensors(folder)
    (folder / WEIGHTS).unlink()
    halves = [dict(list(state.items())[half::2]) for half in range(2)]
    for number, half in enumerate(halves):
        torch.save(half, folder / f"pytorch_model-0000{number + 1}-of-00002.bin")
    with pytest.raises(UserError, match=r"pytorch_model\*\.bin is a pickle and never opened") as error:
        load(folder)
    command = str(error.value).split("convert it there: ")[1]
    monkeypatch.chdir(folder)
    exec(command.removeprefix('python -c "').removesuffix('"'))
    assert all(torch.equal(tensor, state[name]) for name, tensor in tensors(folder).items())
    load(folder)


def test_no_pickle_is_opened_and_no_code_is_run(folder, tmp_path):
    mark = tmp_path / "unpickled"
    bait = pickle.dumps(Bait(mark))
    for name in ("training_args.bin", "pytorch_model.bin", "optimizer.pt", "rng_state.pth", "mm_projector.bin"):
        (folder / name).write_bytes(bait)
    (folder / "modeling_parrot.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    for file in ("config.json", "tokenizer_config.json"):
        change(folder / file, auto_map={"AutoModel": "modeling_parrot.X", "AutoTokenizer": ["modeling_parrot.X", None]})
    load_released(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(UserError, match="is a pickle"):
        load_released(folder)
    assert not mark.exists()
    pickle.loads(bait)
    assert mark.exists()


@pytest.mark.parametrize("kind", [ParrotConfig, ParrotForConditionalGeneration])
def test_a_released_folder_is_not_taken_for_ours_and_the_line_says_what_loads_it(folder, kind):
    with pytest.raises(ValueError, match=r"found parrot_qwen2; .* parrot\.model\.checkpoint\.load"):
        kind.from_pretrained(folder)


def test_the_dispatcher_loads_a_released_folder(folder):
    model, processor = load_any(folder)
    assert all(torch.equal(tensor, load(folder).state_dict()[name]) for name, tensor in model.state_dict().items())
    assert processor.num_image_tokens == 17


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.write_text("[" * 100_000)])
def test_a_config_that_cannot_be_read_names_no_model(make, tmp_path: Path):
    make(tmp_path / "config.json")
    assert model_type(tmp_path) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": "x"}, "config.json: expected sizes and switches that make a model: "),
        ({"mm_vision_select_layer": 99}, "config.json: expected sizes and switches that make a model: vision_feature_"),
        ({"num_hidden_layers": 10**9}, "config.json: num_hidden_layers: expected at most the weights' "),
        ({"num_experts": 10**9}, "config.json: num_experts: expected at most the weights' "),
        (
            {"hidden_act": "nonsense"},
            "config.json: hidden_act: expected an activation of transformers, found 'nonsense'",
        ),
        ({"num_attention_heads": 10**9}, "config.json: num_attention_heads: expected a divisor of hidden_size, 48, "),
        ({"intermediate_size": -1}, "config.json: intermediate_size: expected a whole number above 0, found -1"),
        ({"hidden_size": 2**70}, "config.json: hidden_size: expected a whole number above 0, found 118059"),
        ({"torch_dtype": 1}, "config.json: torch_dtype: expected 'float32', 'bfloat16' or 'float16', found 1"),
        (
            {"torch_dtype": {"a": 1}},
            "config.json: torch_dtype: expected 'float32', 'bfloat16' or 'float16', found a mapping",
        ),
    ],
)
def test_a_released_config_that_makes_no_model_is_one_line(folder, changed, said):
    change(folder / "config.json", **changed)
    with pytest.raises(UserError) as error:
        load_released(folder)
    assert f"{folder}/{said}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"patch_size": None}, "patch_size: expected a whole number above 0, found None"),
        ({"patch_size": 10**9}, "patch_size: expected at most image_size, 28, found 1000000000"),
        ({"hidden_act": "nonsense"}, "hidden_act: expected an activation of transformers, found 'nonsense'"),
        ({"torch_dtype": {"a": 1}}, "dtype: expected float32, bfloat16 or float16, found {'a': 1}"),
    ],
)
def test_an_encoder_s_config_that_makes_no_model_is_one_line(folder, changed, expected):
    path = folder.parent / "clip-vit-tiny-patch7-28" / "config.json"
    change(path, **changed)
    with pytest.raises(UserError) as error:
        load_released(folder)
    assert str(error.value) == f"{path}: {expected}"


@pytest.mark.parametrize("longest", [[], {"a": 1}, "77"])
def test_a_tokenizer_s_length_that_is_no_number_is_one_line(folder, longest):
    change(folder / "tokenizer_config.json", model_max_length=longest)
    with pytest.raises(UserError, match=r"tokenizer_config\.json: model_max_length: expected a number, found "):
        load_released(folder)
