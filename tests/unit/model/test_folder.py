"""Model folders that are not whole, by kind of damage: each is one line that names the file and what was expected."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from parrot.config.catalog import BackboneFolder
from parrot.errors import UserError
from parrot.fetch.integrity import inspect
from parrot.model.build import build, save_projector
from parrot.model.checkpoint import load_parrot
from parrot.model.folder import check_folder
from tests.helpers.tiny_training import talkative_model, tune_settings, write_backbones
from tests.helpers.tiny_vlms import ARCHITECTURES
from tests.unit.model.test_backbones import save_encoder

SHIPPED = Path(__file__).parents[3] / "workflow/resources/mini/backbones"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HALVES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
Damage = Callable[[Path], object]


def put(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(name: str, keep: float = 0.5) -> Damage:
    return lambda folder: os.truncate(folder / name, int((folder / name).stat().st_size * keep))


def drop(*names: str) -> Damage:
    return lambda folder: [(folder / name).unlink() for name in names]


def folder_for(name: str) -> Damage:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def loop(name: str) -> Damage:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to(name))


def change(name: str, **fields: Any) -> Damage:
    """Set fields of a JSON file; those that are None go."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) | fields
        (folder / name).write_text(json.dumps({field: each for field, each in value.items() if each is not None}))

    return damage


def reweigh(alter: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        alter(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def transpose(state: dict[str, torch.Tensor]) -> None:
    state["model.layers.0.mlp.up_proj.weight"] = state["model.layers.0.mlp.up_proj.weight"].T.contiguous()


def shard(alter: Callable[[dict[str, str]], object], twice: bool = False) -> Damage:
    """Split the weights in two, `alter` the index; `twice`: the second half holds the whole."""

    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        index = {name: HALVES[number % 2] for number, name in enumerate(sorted(state))}
        for half in HALVES:
            part = {name: state[name] for name in index if index[name] == half or (twice and half == HALVES[1])}
            save_file(part, folder / half, metadata={"format": "pt"})
        alter(index)
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))

    return damage


def of_vocabulary(size: int) -> Damage:
    """Another tokenizer, of the first `size` tokens."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / "tokenizer.json").read_text())
        model = value["model"]
        model["vocab"] = {token: id_ for token, id_ in model["vocab"].items() if id_ < size}
        model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
        (folder / "tokenizer.json").write_text(json.dumps(value))

    return damage


def plain_markers(folder: Path) -> None:
    """A turn's markers as text."""
    value = json.loads((folder / "tokenizer.json").read_text())
    value["added_tokens"] = [token for token in value["added_tokens"] if token["content"] != "<|im_start|>"]
    (folder / "tokenizer.json").write_text(json.dumps(value))
    change("tokenizer_config.json", extra_special_tokens=["<image>"])(folder)


LANGUAGE_MODEL: dict[str, tuple[Damage, str]] = {
    "no folder": (shutil.rmtree, "qwen: no such model folder"),
    "no config": (drop("config.json"), "qwen: no config.json"),
    "config: no JSON": (put("config.json", "{ not json"), "config.json: expected JSON"),
    "config: list": (put("config.json", "[]"), "config.json: expected a JSON object, found list"),
    "config: empty": (put("config.json", ""), "config.json: expected JSON"),
    "config: pointer": (put("config.json", POINTER), "config.json: expected the file itself, found a Git LFS pointer"),
    "config: folder": (folder_for("config.json"), "config.json: expected a regular file, found a folder"),
    "config: loop": (loop("config.json"), "config.json: cannot be read: Too many levels of symbolic links"),
    "config: no type": (
        change("config.json", model_type=None),
        "model_type: expected an architecture that transformers",
    ),
    "config: type unknown": (change("config.json", model_type="qwen99"), "transformers knows, found 'qwen99'"),
    "config: type without biases": (change("config.json", model_type="llama"), "bias: expected nothing by config.json"),
    "config: text as number": (change("config.json", hidden_size="128"), "expected the configuration of a qwen2 model"),
    "config: heads left out": (
        change("config.json", num_attention_heads=None),
        "config.json: num_attention_heads: expected a value, found nothing",
    ),
    "config: no positions": (change("config.json", rope_parameters=None), "rope_parameters: expected a value, found"),
    "config: no heads": (change("config.json", num_attention_heads=0), "expected sizes that make a model"),
    "config: other width": (
        change("config.json", hidden_size=256),
        "expected (4096, 256) by config.json, found (4096, 128)",
    ),
    "config: layers without end": (
        change("config.json", num_hidden_layers=10**9, layer_types=None),
        "expected at most the weights' 50, found 1000000000",
    ),
    "config: a layer more": (
        change("config.json", num_hidden_layers=5, layer_types=None),
        "found nothing (and 11 more)",
    ),
    "config: a layer less": (
        change("config.json", num_hidden_layers=3, layer_types=None),
        "found a tensor (and 11 more)",
    ),
    "weights: none": (drop(WEIGHTS), "qwen: no model.safetensors"),
    "weights: cut": (cut(WEIGHTS), "model.safetensors: the weights cannot be read: expected a header and the tensors"),
    "weights: a byte less": (cut(WEIGHTS, 1 - 1e-7), "file not fully covered"),
    "weights: empty": (put(WEIGHTS, b""), "found 0 bytes: header too small"),
    "weights: header without end": (put(WEIGHTS, (2**62).to_bytes(8, "little") + b"{}"), "header too large"),
    "weights: header of others": (put(WEIGHTS, (4).to_bytes(8, "little") + b"text"), "expected ident at line 1"),
    "weights: no tensors": (
        put(WEIGHTS, (2).to_bytes(8, "little") + b"{}"),
        "expected at most the weights' 0, found 4",
    ),
    "weights: pointer": (put(WEIGHTS, POINTER), "model.safetensors: expected the file itself, found a Git LFS pointer"),
    "weights: folder": (folder_for(WEIGHTS), "model.safetensors: expected a regular file, found a folder"),
    "weights: loop": (loop(WEIGHTS), "model.safetensors: cannot be read: Too many levels of symbolic links"),
    "weights: one missing": (
        reweigh(lambda state: state.pop("model.norm.weight")),
        "model.norm.weight: expected (128,)",
    ),
    "weights: one too many": (reweigh(lambda state: state.update(more=torch.ones(1))), "more: expected nothing"),
    "weights: transposed": (reweigh(transpose), "expected (344, 128) by config.json, found (128, 344)"),
    "weights: pickle": (lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"), "is a pickle"),
    "shards: one missing": (lambda folder: (shard(dict)(folder), drop(HALVES[1])(folder)), f"{HALVES[1]}: named by"),
    "shards: one cut": (
        lambda folder: (shard(dict)(folder), cut(HALVES[1])(folder)),
        f"{HALVES[1]}: the weights cannot",
    ),
    "shards: tensor in two": (
        shard(dict, twice=True),
        f"expected it in one file, found it in {HALVES[0]}, {HALVES[1]}",
    ),
    "shards: tensor in none": (shard(lambda index: index.update(more=HALVES[0])), "more: the index names"),
    "shards: unlisted tensor": (shard(lambda index: index.pop("model.norm.weight")), "the index names no file"),
    "shards: path": (shard(lambda index: index.update(more="../x.safetensors")), "found '../x.safetensors'"),
    "shards: number": (shard(lambda index: index.update(more=3)), "more: expected the name of a file"),
    "index: no map": (lambda folder: (shard(dict)(folder), put(INDEX, "{}")(folder)), "weight_map: expected the file"),
    "index: no JSON": (lambda folder: (shard(dict)(folder), put(INDEX, "{")(folder)), f"{INDEX}: expected JSON"),
    "tokenizer: none": (drop("tokenizer.json", "tokenizer_config.json"), "qwen: no tokenizer.json"),
    "tokenizer: no settings": (drop("tokenizer_config.json"), "qwen: no tokenizer_config.json"),
    "tokenizer: half of two files": (
        lambda folder: (folder / "tokenizer.json").rename(folder / "vocab.json"),
        "no tokenizer.json",
    ),
    "tokenizer: cut": (cut("tokenizer.json"), "tokenizer.json: expected JSON"),
    "tokenizer: empty object": (put("tokenizer.json", "{}"), "qwen: tokenizer: cannot be read: "),
    "tokenizer: pointer": (put("tokenizer.json", POINTER), "tokenizer.json: expected the file itself, found a Git LFS"),
    "tokenizer: few tokens": (of_vocabulary(1000), "vocab_size, 4096 tokens, found 1000"),
    "tokenizer: without bytes": (
        of_vocabulary(100),
        "tokenizer: en: expected 'What is it?' back from its tokens, found 'Whatisit?'",
    ),
    "tokenizer: larger": (
        change("config.json", vocab_size=4000),
        "the weights: model.embed_tokens.weight: expected (4000",
    ),
    "tokenizer: other end": (change("tokenizer_config.json", eos_token="<|endoftext|>"), "eos_token: expected token 2"),
    "tokenizer: no markers": (plain_markers, "tokenizer: expected <|im_start|> as one token, found "),
}


def break_copy(original: Path, copy: Path, damage: Damage) -> Path:
    shutil.copytree(original, copy)
    damage(copy)
    return copy


def problem(folder: Path) -> str:
    """The one line that `parrot fetch --check` says of a backbone."""
    entry = BackboneFolder(kind="backbone", path=str(folder), licence="none", source="local")
    (line,) = inspect({"it": entry}, {}).problems
    assert "\n" not in line
    assert line.startswith(str(folder))
    return line


@pytest.mark.parametrize("case", LANGUAGE_MODEL)
def test_a_language_model_that_is_not_whole_is_named(tmp_path, case):
    damage, expected = LANGUAGE_MODEL[case]
    assert expected in problem(break_copy(SHIPPED / "qwen", tmp_path / "qwen", damage))


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    folder = break_copy(SHIPPED / "qwen", tmp_path / "qwen", lambda folder: None)

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("parrot.model.weights.open", refuse, raising=False)
    assert problem(folder) == f"{folder}/{WEIGHTS}: cannot be read: Permission denied"


PIXELS = "preprocessor_config.json"
ENCODER: dict[str, tuple[Damage, str]] = {
    "none": (drop(PIXELS), "clip: no preprocessor_config.json"),
    "no JSON": (put(PIXELS, "{"), "preprocessor_config.json: expected JSON"),
    "list": (put(PIXELS, "[]"), "preprocessor_config.json: expected a JSON object"),
    "empty": (put(PIXELS, "{}"), "image_mean: expected 3 numbers, found None"),
    "no size": (change(PIXELS, size=None), "size: expected the side of the images, 40, found nothing"),
    "other crop": (change(PIXELS, crop_size=56), "expected images of 3 x 40 x 40 by config.json, found 3 x 56 x 56"),
    "size in words": (change(PIXELS, size={"side": 40}), "preprocessor_config.json: expected "),
    "grey": (change(PIXELS, image_mean=[0.5]), "image_mean: expected 3 numbers, found [0.5]"),
    "no spread": (change(PIXELS, image_std=[0.5, 0, 0.5]), "image_std: expected numbers above 0"),
    "infinite": (
        put(PIXELS, '{"size": 40, "image_mean": [0, 0, NaN], "image_std": [1, 1, 1]}'),
        "image_mean: expected 3",
    ),
    "larger image": (change("config.json", image_size=80), "position_embedding"),
}


@pytest.mark.parametrize("case", ENCODER)
def test_an_encoder_that_is_not_whole_is_named(tmp_path, case):
    damage, expected = ENCODER[case]
    assert expected in problem(break_copy(SHIPPED / "clip", tmp_path / "clip", damage))


@pytest.mark.parametrize("name", ["clip", "clip_zh", "qwen"])
def test_shipped_backbones_are_whole(name):
    check_folder(SHIPPED / name)


@pytest.mark.parametrize("kind", ["clip", "chinese_clip", "siglip"])
def test_encoders_beside_their_text_part_are_whole(tmp_path, kind):
    save_encoder(kind, tmp_path)
    check_folder(tmp_path)


def test_sharded_weights_beside_others_are_whole(tmp_path):
    folder = break_copy(SHIPPED / "qwen", tmp_path / "qwen", shard(dict))
    (folder / "pytorch_model.bin").write_bytes(b"")
    check_folder(folder)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_of_any_architecture_are_whole_and_then_not(tmp_path, name):
    ARCHITECTURES[name](tmp_path / name)
    check_folder(tmp_path / name)
    cut(WEIGHTS, 0.9)(tmp_path / name)
    assert "the weights cannot be read" in problem(tmp_path / name)


def test_folders_that_are_meant_for_one_another_are_named():
    with pytest.raises(UserError, match=r"clip/config\.json: model_type: expected a language model, found clip_vision"):
        check_folder(SHIPPED / "clip", "language model")
    with pytest.raises(UserError, match=r"qwen/config\.json: model_type: expected a vision encoder, found qwen2"):
        check_folder(SHIPPED / "qwen", "vision encoder")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for part in talkative_model(folder):
        part.save_pretrained(folder / "model")
    return folder / "model"


def spoil(state: dict[str, torch.Tensor], value: float = float("nan")) -> None:
    state["model.expert_block.router.weight"][0, 0] = value


TRAINED: dict[str, tuple[Damage, str]] = {
    "no generation settings": (drop("generation_config.json"), "no generation_config.json"),
    "no end": (
        change("generation_config.json", eos_token_id=None),
        "eos_token_id: expected the token that ends a turn",
    ),
    "no processor": (drop("processor_config.json"), "no processor_config.json"),
    "processor: list": (put("processor_config.json", "[]"), "processor_config.json: expected a JSON object"),
    "other visual tokens": (change("processor_config.json", num_image_tokens=9), "num_image_tokens: expected 5 by"),
    "other router's text": (change("processor_config.json", router_text="user"), "router_text: expected prompt by"),
    **{
        f"no {name}": (change("config.json", **{name: None}), f"config.json: {name}: expected a value, found nothing")
        for name in ("num_experts", "router", "moe_weight", "residual", "expert_type", "text_config")
    },
    "part: no object": (change("config.json", text_config=[]), "text_config: expected a configuration with its model"),
    "part: no heads": (
        change("config.json", vision_config={"model_type": "clip_vision_model", "hidden_act": "gelu"}),
        "config.json: vision_config: layer_norm_eps: expected a value, found nothing",
    ),
    "unknown router": (change("config.json", router="mood"), "config.json: router: expected 'text', "),
    "other router": (change("config.json", router="language"), "router.weight: expected (2, 6) by config.json"),
    "no experts": (change("config.json", num_experts=0), "expert_block"),
    "other image token": (change("config.json", image_token_id=7), "tokenizer: expected <image> to be token 7, found "),
    "no tokenizer": (drop("tokenizer.json"), "no tokenizer.json"),
    "not a number": (reweigh(spoil), "router.weight: expected finite weights, found nan"),
    "infinite": (
        reweigh(lambda state: spoil(state, -float("inf"))),
        "router.weight: expected finite weights, found -inf",
    ),
}


@pytest.mark.parametrize("case", TRAINED)
def test_a_trained_model_that_is_not_whole_is_not_loaded(trained, tmp_path, case):
    damage, expected = TRAINED[case]
    folder = break_copy(trained, tmp_path / "model", damage)
    with pytest.raises(UserError) as error:
        load_parrot(folder)
    assert str(error.value).startswith(str(folder))
    assert expected in str(error.value)


PROJECTOR: dict[str, tuple[Damage, str]] = {
    "none": (drop(WEIGHTS), "projector: no model.safetensors; expected a projector that stage 1 saved"),
    "cut": (cut(WEIGHTS), "model.safetensors: the weights cannot be read"),
    "pointer": (put(WEIGHTS, POINTER), "found a Git LFS pointer"),
    "one missing": (
        reweigh(lambda state: state.pop("linear_2.bias")),
        "linear_2.bias: expected a tensor of shape (16,)",
    ),
    "one too many": (reweigh(lambda state: state.update(more=torch.ones(1))), "more: expected no such tensor"),
    "not a number": (
        reweigh(lambda state: state["linear_1.bias"].fill_(float("nan"))),
        "linear_1.bias: expected finite weights, found nan",
    ),
}


@pytest.mark.parametrize("case", PROJECTOR)
def test_a_projector_that_is_not_whole_is_not_built_upon(tmp_path, case):
    write_backbones(tmp_path)
    settings = tune_settings(tmp_path, ())
    save_projector(build(settings)[0], tmp_path / "projector")
    damage, expected = PROJECTOR[case]
    damage(tmp_path / "projector")
    with pytest.raises(UserError) as error:
        build(settings, tmp_path / "projector")
    assert str(error.value).startswith(str(tmp_path / "projector"))
    assert expected in str(error.value)


def test_backbones_with_infinite_weights_are_not_built_upon(tmp_path):
    write_backbones(tmp_path)
    reweigh(lambda state: state["model.norm.weight"].fill_(float("inf")))(tmp_path / "qwen")
    with pytest.raises(UserError, match=r"qwen: model\.norm\.weight: expected finite weights, found inf"):
        build(tune_settings(tmp_path, ()))
