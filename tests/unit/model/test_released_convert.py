"""Import and export of the released layout: nothing is lost either way, and what it cannot hold is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, LlamaConfig, SiglipVisionConfig

from parrot.cli import app as cli
from parrot.errors import UserError
from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotModel
from parrot.model.checkpoint import load_parrot
from parrot.model.convert import load_released
from parrot.model.convert.convert import export_released, import_released
from tests.helpers.released_folders import change, cut_to_three_experts, read, released_copy, save, shard, tensors
from tests.helpers.tiny_model import images, tiny_config, tiny_model, tiny_processor

SMALL_FILES = (
    "config",
    "generation_config",
    "tokenizer",
    "tokenizer_config",
    "special_tokens_map",
    "added_tokens",
    "vocab",
)


def same_bytes(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        tensor.dtype == second[name].dtype
        and tensor.shape == second[name].shape
        and torch.equal(tensor.flatten().view(torch.uint8), second[name].flatten().view(torch.uint8))
        for name, tensor in first.items()
    )


def there_and_back(source: Path, tmp_path: Path) -> Path:
    import_released(source, tmp_path / "model")
    export_released(tmp_path / "model", tmp_path / "export")
    return tmp_path / "export"


def as_bfloat16(folder: Path) -> None:
    change(folder / "config.json", torch_dtype="bfloat16")
    save(folder, {name: tensor.bfloat16() for name, tensor in tensors(folder).items()})


def mixed(folder: Path) -> None:
    """The vision encoder alone in float32, as some trainings leave it."""
    change(folder / "config.json", torch_dtype="bfloat16")
    state = tensors(folder)
    save(folder, {name: tensor if "vision" in name else tensor.bfloat16() for name, tensor in state.items()})


def three_experts(folder: Path) -> None:
    change(folder / "config.json", num_experts=3)
    save(folder, cut_to_three_experts(tensors(folder)))


def tied(folder: Path) -> None:
    change(folder / "config.json", tie_word_embeddings=True)


def tied_without_head(folder: Path) -> None:
    tied(folder)
    save(folder, {name: tensor for name, tensor in tensors(folder).items() if name != "lm_head.weight"})


def linear_projector(folder: Path) -> None:
    change(folder / "config.json", mm_projector_type="linear")
    state = {name.replace("mm_projector.0.", "mm_projector."): tensor for name, tensor in tensors(folder).items()}
    save(folder, {name: tensor for name, tensor in state.items() if "mm_projector.2." not in name})


def odd_numbers(folder: Path) -> None:
    state = tensors(folder)
    for name in ("lm_head.weight", "model.moe_model.experts.2.down_proj.weight"):
        state[name].view(torch.int32)[0, :3] = torch.tensor([0x7FC00001, -0x80000000, 1])  # a NaN, -0.0, a denormal
    save(folder, state)


KINDS = {
    "as released": lambda f: None,
    "sharded": shard,
    "bfloat16": as_bfloat16,
    "two dtypes": mixed,
    "odd numbers": odd_numbers,
    "three experts": three_experts,
    "linear projector": linear_projector,
    "tied, with a head": tied,
    "tied": tied_without_head,
    "experts not used": lambda f: change(f / "config.json", use_moe=False),
    "patches without experts": lambda f: change(f / "config.json", use_moe=False, mm_vision_select_feature="patch"),
    "no residual": lambda f: change(f / "config.json", use_moe_residual=False),
    "values unknown here": lambda f: change(
        f / "config.json", moe_top_k=2, mm_projector_lr=1e-300, image_aspect_ratio="square", mine={"a": [1, None, "ş"]}
    ),
    "no sampling, a template": lambda f: (
        change(f / "generation_config.json", repetition_penalty=1.05, top_p=0.8, do_sample=True, pad_token_id=586),
        change(f / "tokenizer_config.json", chat_template="{{ messages }}", model_max_length=77),
    ),
    "tokenizer as vocabulary and merges": lambda f: (f / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_every_tensor_and_value_survives(golden, tmp_path, kind):
    source = released_copy(golden, tmp_path)
    KINDS[kind](source)
    export = there_and_back(source, tmp_path)
    assert same_bytes(tensors(export), tensors(source))
    for name in SMALL_FILES:
        if (source / f"{name}.json").exists():
            ours, theirs = read(export / f"{name}.json"), read(source / f"{name}.json")
            assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True), name  # 1 is not 1.0
    assert (export / "merges.txt").read_text() == (source / "merges.txt").read_text()


@pytest.mark.parametrize("kind", ["as released", "sharded", "experts not used", "tied"])
def test_an_imported_folder_is_a_model_folder(golden, tmp_path, kind):
    source = released_copy(golden, tmp_path)
    KINDS[kind](source)
    import_released(source, tmp_path / "model")
    expected, expected_processor = load_parrot(source)
    model, processor = load_parrot(tmp_path / "model")
    assert same_bytes(model.state_dict(), expected.state_dict())
    assert type(AutoModelForImageTextToText.from_pretrained(tmp_path / "model")) is ParrotForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(tmp_path / "model")) is type(processor)
    assert model.generation_config.eos_token_id == 588
    prompt = processor.format_prompt("<image>\nWhat is it?")
    assert processor.encode(prompt) == expected_processor.encode(prompt)
    ids = torch.tensor([processor.encode(prompt)])
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = [each(input_ids=ids, pixel_values=pixels).logits for each in (model, expected)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)  # of up to 42


def test_loading_saving_and_exporting_is_import_and_export(golden, tmp_path):
    source = released_copy(golden, tmp_path)
    model, processor = load_released(source)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    export_released(tmp_path / "model", tmp_path / "export")
    assert same_bytes(tensors(tmp_path / "export"), tensors(source))
    assert read(tmp_path / "export" / "config.json") == read(source / "config.json")


def test_a_change_after_import_reaches_the_export(golden, tmp_path):
    source = released_copy(golden, tmp_path, use_moe_residual=False, moe_top_k=2)
    import_released(source, tmp_path / "model")
    model, _ = load_parrot(tmp_path / "model")
    model.config.moe_weight = 0.5
    with torch.no_grad():
        model.model.expert_block.experts.down_proj[1].fill_(3)
    model.save_pretrained(tmp_path / "model", save_original_format=False)
    export_released(tmp_path / "model", tmp_path / "export")
    config = read(tmp_path / "export" / "config.json")
    assert (config["use_moe_residual"], config["moe_weight"], config["moe_top_k"]) == (True, 0.5, 2)
    changed = {
        name for name, tensor in tensors(tmp_path / "export").items() if not torch.equal(tensor, tensors(source)[name])
    }
    assert changed == {"model.moe_model.experts.1.down_proj.weight"}


def test_unused_experts_are_not_lost_in_silence(golden, tmp_path):
    import_released(released_copy(golden, tmp_path, use_moe=False), tmp_path / "model")
    (tmp_path / "model" / "unused.safetensors").unlink()
    with pytest.raises(UserError, match=r"no unused\.safetensors"):
        export_released(tmp_path / "model", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_the_tower_s_folder_is_whole(golden, tmp_path):
    source = released_copy(golden, tmp_path)
    export = there_and_back(source, tmp_path)
    prefix = "model.vision_tower.vision_tower."
    expected = {name.removeprefix(prefix): t for name, t in tensors(source).items() if name.startswith(prefix)}
    tower = export / "clip-vit-tiny-patch7-28"
    assert same_bytes(tensors(tower), expected)
    theirs = read(tmp_path / tower.name / "config.json")
    ours = read(tower / "config.json")
    assert {name: ours[name] for name in theirs if name != "architectures"} == {
        name: value for name, value in theirs.items() if name != "architectures"
    }
    load_released(export)


def test_a_tower_named_outside_is_written_inside_and_still_named(golden, tmp_path):
    outside = tmp_path / "store" / "clip-vit-x"
    source = released_copy(golden, tmp_path)
    (tmp_path / "clip-vit-tiny-patch7-28").rename(tmp_path / "tower")
    change(source / "config.json", mm_vision_tower=str(outside))
    import_released(source, tmp_path / "model", tmp_path / "tower")
    export_released(tmp_path / "model", tmp_path / "export")
    assert read(tmp_path / "export" / "config.json")["mm_vision_tower"] == str(outside)
    assert not outside.exists()
    load_released(tmp_path / "export", tmp_path / "export" / "clip-vit-patch7-28")


def trained(folder: Path, **over) -> ParrotForConditionalGeneration:
    over.setdefault("image_token_id", 259)
    model = tiny_model(**over)
    model.save_pretrained(folder, save_original_format=False)
    tiny_processor(visual_tokens=model.config.num_image_tokens).save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "over",
    [
        {},
        {"num_experts": 0},
        {"num_experts": 0, "vision_feature_select": "patch"},
        {"projector_type": "linear"},
        {"text": {"tie_word_embeddings": True}},
        {"vision_feature_layer": -1, "moe_weight": 0.3, "moe_top_k": 3},
        {"router_balance": 0.01, "alpha": 0.5},
    ],
)
def test_a_model_trained_here_comes_back(golden, tmp_path, over):
    model = trained(tmp_path / "model", **over)
    export_released(tmp_path / "model", tmp_path / "export")
    config = read(tmp_path / "export" / "config.json")
    theirs = read(golden / "model" / "checkpoint" / "config.json")
    # bos_token_id: this tokenizer has none. _name_or_path is where a folder once was.
    assert theirs.keys() - config.keys() <= {"_name_or_path", "bos_token_id", "eos_token_id"}
    assert config["vocab_size"] == 300
    assert "/clip-vit" in config["mm_vision_tower"]
    names = tensors(tmp_path / "export").keys()
    assert not [name for name in names if "expert_block" in name or "language_model" in name]
    assert f"model.moe_model.experts.{config['num_experts'] - 1}.up_proj.weight" in names
    again, processor = load_released(tmp_path / "export")
    assert same_bytes(again.state_dict(), model.state_dict())
    assert processor.image_token_id == model.config.image_token_id
    ids = torch.tensor([[5, 6, *[259] * processor.num_image_tokens, 70, 8, 9]])
    with torch.no_grad():
        logits = [each(input_ids=ids, pixel_values=images(1)).logits for each in (model, again)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)  # of up to 42


REFUSED = {
    "residual": {"residual": "paper"},
    "expert_type": {"expert_type": "two_layer"},
    "moe_top_k": {"moe_top_k": 2},
    "router": {"router": "image"},
    "router_text": {"router_text": "user"},
    "vision_config": {"vision_config": SiglipVisionConfig()},
    "text_config": {"text_config": LlamaConfig()},
    "text_config.rope_parameters": {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_the_released_code_cannot_express_is_refused(tmp_path, field):
    trained(tmp_path / "model")
    config = tiny_config(image_token_id=259, dtype="float32").to_dict()
    for name, value in REFUSED[field].items():
        if name in ("vision_config", "text_config"):
            value = value.to_dict()
        (config["text_config"] if name == "rope_parameters" else config)[name] = value
    ParrotConfig.from_dict(config).save_pretrained(tmp_path / "model")
    with pytest.raises(
        UserError, match=rf"config\.json: {field.replace('.', chr(92) + '.')}: the released code"
    ) as error:
        export_released(tmp_path / "model", tmp_path / "export")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "export").exists()


NONSENSE = {
    "num_experts": ("nonsense", "num_experts: expected a whole number, found 'nonsense'"),
    "released": ([1], "released: expected JSON files by name, config.json among them, found [1]"),
    "dtype": ({"a": 1}, "dtype: expected float32, bfloat16 or float16, found {'a': 1}"),
    "text_config.hidden_act": ("x", "text_config: hidden_act: expected an activation of transformers, found 'x'"),
    "text_config.num_attention_heads": (
        10**9,
        "text_config: num_attention_heads: expected a divisor of hidden_size, 16, found 1000000000",
    ),
    "vision_config.patch_size": (None, "vision_config: patch_size: expected a whole number above 0, found None"),
    "vision_config.image_size": ([1], "vision_config: image_size: expected a whole number above 0, found [1]"),
}


@pytest.mark.parametrize("field", NONSENSE)
def test_nonsense_in_a_config_is_one_line_on_export(tmp_path, field):
    trained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    value, expected = NONSENSE[field]
    config = read(path)
    part, _, name = field.rpartition(".")
    (config[part] if part else config)[name] = value
    path.write_text(json.dumps(config))
    with pytest.raises(UserError) as error:
        export_released(tmp_path / "model", tmp_path / "export")
    assert str(error.value) == f"{path}: {expected}"
    assert not (tmp_path / "export").exists()


def test_ids_that_the_released_files_cannot_hold_are_refused(tmp_path):
    trained(tmp_path / "model")
    processor = tiny_processor()
    processor.tokenizer.add_tokens(["<later>"])
    processor.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"<later>: id 260 would become 259"):
        export_released(tmp_path / "model", tmp_path / "export")


def test_weights_and_config_must_agree_on_export(tmp_path):
    trained(tmp_path / "model")
    state = tensors(tmp_path / "model")
    del state["model.expert_block.experts.up_proj"]
    save(tmp_path / "model", state)
    with pytest.raises(UserError, match=r"model\.expert_block\.experts\.up_proj: expected .* found nothing"):
        export_released(tmp_path / "model", tmp_path / "export")


def test_a_folder_without_its_processor_is_refused(tmp_path):
    trained(tmp_path / "model")
    (tmp_path / "model" / "processor_config.json").unlink()
    with pytest.raises(UserError, match=r"no processor_config\.json"):
        export_released(tmp_path / "model", tmp_path / "export")


def command(monkeypatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["parrot", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_the_commands(golden, tmp_path, monkeypatch, capsys):
    source = released_copy(golden, tmp_path)
    (tmp_path / "clip-vit-tiny-patch7-28").rename(tmp_path / "tower")
    model, export = tmp_path / "model", tmp_path / "export"
    assert command(monkeypatch, "import-released", source, model) == 1
    assert "mm_vision_tower" in capsys.readouterr().err
    assert command(monkeypatch, "import-released", source, model, "--vision-tower", tmp_path / "tower") == 0
    assert command(monkeypatch, "export-released", model, export) == 0
    assert same_bytes(tensors(export), tensors(source))
    for arguments, said in (
        (("import-released", source, model), "expected a folder that does not exist yet or is empty"),
        (("export-released", model, export), "expected a folder that does not exist yet or is empty"),
        (("export-released", source, tmp_path / "x"), "model_type: expected parrot, found parrot_qwen2"),
        (("import-released", model, tmp_path / "x"), "model_type: expected 'parrot_qwen2'"),
        (("import-released", tmp_path / "none", tmp_path / "x"), "config.json: cannot be read"),
        (("export-released", tmp_path / "none", tmp_path / "x"), "config.json: cannot be read"),
    ):
        capsys.readouterr()
        assert command(monkeypatch, *arguments) == 1
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_released_folders_do_not_change_how_ours_are_read(tmp_path):
    model = trained(tmp_path / "model")
    for kind in (ParrotForConditionalGeneration, ParrotModel):
        loaded = kind.from_pretrained(tmp_path / "model")
        expected = model if kind is ParrotForConditionalGeneration else model.model
        assert same_bytes(loaded.state_dict(), expected.state_dict())
    loaded = ParrotForConditionalGeneration.from_pretrained(tmp_path / "model")
    loaded.save_pretrained(tmp_path / "again")
    assert tensors(tmp_path / "again").keys() == tensors(tmp_path / "model").keys()
