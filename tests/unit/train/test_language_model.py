"""Stage 2 with the language model tuned whole, by low-rank adapters or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from parrot.config.hardware import TrainingHardware
from parrot.config.settings import ExpertSettings, LoraSettings, load_config, overlay
from parrot.config.stages import TuneSettings
from parrot.config.suite import Suite
from parrot.errors import UserError
from parrot.model import ParrotForConditionalGeneration
from parrot.model.build import build, trainable
from parrot.model.checkpoint import load_parrot
from parrot.train.adapters import add_adapters, merge_adapters, save_adapters
from parrot.train.stages import align, tune
from tests.helpers.tiny_model import CLOSE
from tests.helpers.tiny_runs import assert_equal, at_step, metrics, sigterm
from tests.helpers.tiny_training import align_settings, tune_settings, write_backbones, write_set

LORA = LoraSettings(rank=2, alpha=4, dropout=0.1)
ATTENTION = [f"self_attn.{name}_proj" for name in "qkvo"]
MLP = [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
PROJECTOR = [f"model.multi_modal_projector.linear_{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")]
EXPERTS = [
    f"model.expert_block.{name}" for name in ("router.weight", *(f"experts.{n}_proj" for n in ("gate", "up", "down")))
]
LAYERS = [f"model.language_model.layers.{layer}." for layer in (0, 1)]
FULL = [
    "model.language_model.embed_tokens.weight",
    "model.language_model.norm.weight",
    *(layer + f"{name}.weight" for layer in LAYERS for name in (*ATTENTION, *MLP)),
    *(layer + f"{name}.bias" for layer in LAYERS for name in ATTENTION[:3]),
    *(layer + f"{name}_layernorm.weight" for layer in LAYERS for name in ("input", "post_attention")),
]
ADAPTERS = [
    f"{layer}{name}.lora_{half}.default.weight" for layer in LAYERS for name in (*ATTENTION, *MLP) for half in "AB"
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbones and one finished alignment, in `folder`/aligned."""
    folder = tmp_path_factory.mktemp("train")
    write_backbones(folder)
    settings = align_settings(folder, (write_set(folder, "captions"),), max_steps=2)
    align(settings, folder / "aligned", folder / "work", TrainingHardware(micro_batch=8))
    return folder


def settings_of(folder: Path, language_model: str, **fields) -> TuneSettings:
    fields = {"max_steps": 6, "save_steps": 2, "lora": LORA} | fields
    return tune_settings(folder, (write_set(folder, "sft_en"),), language_model=language_model, **fields)


def run(settings: TuneSettings, folder: Path, output: Path, micro_batch: int = 4) -> Path:
    tune(
        settings,
        folder / "aligned/projector",
        output,
        output.parent / f"{output.name}.work",
        TrainingHardware(micro_batch=micro_batch),
    )
    return output


@pytest.fixture(scope="module")
def by_lora(folder: Path) -> Path:
    return run(settings_of(folder, "lora"), folder, folder / "by_lora")


@pytest.fixture(scope="module")
def frozen(folder: Path) -> Path:
    return run(settings_of(folder, "frozen"), folder, folder / "frozen")


def inputs_of(processor, seed: int = 0) -> dict[str, torch.Tensor]:
    """One question about a random image."""
    conversation = [{"from": "human", "value": "<image>\nWhich colour is it?"}]
    ids, _ = processor.format_conversation([*conversation, {"from": "gpt", "value": "red"}])
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return {"input_ids": torch.tensor([ids]), "pixel_values": pixels}


@pytest.mark.parametrize(
    ("language_model", "of_it"), [("full", FULL), ("lora", ADAPTERS), ("frozen", [])], ids=["full", "lora", "frozen"]
)
def test_what_trains(folder, language_model, of_it):
    model, _ = build(settings_of(folder, language_model))
    if language_model == "lora":
        add_adapters(model, LORA, seed=0)
    assert trainable(model, "tune", language_model) == sorted([*PROJECTOR, *EXPERTS, *of_it])


def test_adapters_start_from_the_seed_and_change_nothing_yet(folder):
    def start(seed: int, drawn_before: int) -> tuple[ParrotForConditionalGeneration, dict[str, torch.Tensor]]:
        torch.manual_seed(drawn_before)
        model, _ = build(settings_of(folder, "lora"))
        add_adapters(model, LORA, seed)
        assert torch.initial_seed() == drawn_before
        return model, {name: model.get_parameter(name) for name in ADAPTERS}

    model, first = start(3, drawn_before=1)
    _, again = start(3, drawn_before=2)
    _, other = start(4, drawn_before=1)
    for name in ADAPTERS:
        assert torch.equal(first[name], again[name])
        if ".lora_B." in name:
            assert not first[name].any()
        else:
            assert not torch.equal(first[name], other[name])
            bound = first[name].shape[1] ** -0.5
            assert 0.6 * bound < first[name].abs().max().item() <= bound
    plain, processor = build(settings_of(folder, "lora"))
    inputs = inputs_of(processor)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, **CLOSE)


def test_frozen_leaves_every_bit_of_the_language_model(folder, frozen):
    before, _ = build(settings_of(folder, "frozen"), folder / "aligned/projector")
    after = load_parrot(frozen / "model")[0].state_dict()
    assert after.keys() == before.state_dict().keys()
    changed = {name for name, value in before.state_dict().items() if not torch.equal(value, after[name])}
    assert changed == {*PROJECTOR, *EXPERTS}
    assert not (frozen / "model/adapter").exists()


def test_lora_trains_adapters_and_leaves_the_base(folder, by_lora):
    state = load_file(by_lora / "model/adapter/adapter_model.safetensors")
    names = {f"base_model.model.{name.replace('.default', '')}" for name in (*ADAPTERS, *PROJECTOR, *EXPERTS)}
    assert state.keys() == names
    assert all(tensor.any() for tensor in state.values())
    before, _ = build(settings_of(folder, "lora"), folder / "aligned/projector")
    after = load_parrot(by_lora / "model")[0].state_dict()
    assert after.keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        if name in PROJECTOR or name in EXPERTS:
            assert torch.equal(after[name], state[f"base_model.model.{name}"])
            assert not torch.equal(after[name], value)
        elif name.startswith(tuple(LAYERS)) and name.endswith("_proj.weight"):
            half = f"base_model.model.{name.removesuffix('.weight')}.lora_"
            product = state[f"{half}B.weight"] @ state[f"{half}A.weight"]
            torch.testing.assert_close(after[name], value + 4 / 2 * product)
            assert not torch.equal(after[name], value)
        else:
            assert torch.equal(after[name], value), name


def test_the_adapter_on_the_backbones_is_the_merged_model(folder, by_lora):
    merged, processor = load_parrot(by_lora / "model")
    base, _ = build(settings_of(folder, "lora"))
    inputs = inputs_of(processor)
    with torch.no_grad():
        expected, untuned = merged(**inputs).logits, base(**inputs).logits
        adapted = PeftModel.from_pretrained(base, by_lora / "model/adapter").eval()
        torch.testing.assert_close(adapted(**inputs).logits, expected, rtol=1e-5, atol=1e-6)
        folded = adapted.merge_and_unload()
        torch.testing.assert_close(folded(**inputs).logits, expected, rtol=1e-5, atol=1e-6)
    assert (expected - untuned).abs().max() > 0.01
    config = json.loads((by_lora / "model/adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (2, 4, 0.1)


def test_an_adapter_without_experts_names_the_projector_alone(folder, tmp_path):
    settings = settings_of(folder, "lora").model_copy(update={"experts": ExpertSettings(num_experts=0)})
    model, _ = build(settings)
    add_adapters(model, LORA, seed=0)
    assert trainable(model, "tune", "lora") == sorted([*PROJECTOR, *ADAPTERS])
    save_adapters(model, LORA, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["modules_to_save"] == ["multi_modal_projector"]
    adapted = PeftModel.from_pretrained(build(settings.model_copy(update={"seed": 9}))[0], tmp_path)
    for name, value in adapted.merge_and_unload().model.multi_modal_projector.state_dict().items():
        assert torch.equal(value, model.model.multi_modal_projector.get_parameter(name))


def test_merging_leaves_a_model_without_adapters(folder):
    model, _ = build(settings_of(folder, "lora"))
    names = model.state_dict().keys()
    add_adapters(model, LORA, seed=0)
    assert set(ADAPTERS) < model.state_dict().keys()
    merge_adapters(model)
    assert model.state_dict().keys() == names
    assert not hasattr(model, "peft_config")


@pytest.mark.parametrize("language_model", ["lora", "frozen"])
def test_stopped_and_resumed_equals_uninterrupted(folder, language_model, request, tmp_path, monkeypatch):
    uninterrupted = request.getfixturevalue({"lora": "by_lora"}.get(language_model, language_model))
    settings = settings_of(folder, language_model)
    with monkeypatch.context() as patch:
        at_step(patch, 3, sigterm)
        with pytest.raises(SystemExit):
            run(settings, folder, tmp_path / "run")
    (checkpoint,) = (tmp_path / "run.work/tune").glob("*/checkpoint-3")
    of_it = ADAPTERS if language_model == "lora" else []
    assert load_file(checkpoint / "model.safetensors").keys() == {*PROJECTOR, *EXPERTS, *of_it}
    assert_equal(run(settings, folder, tmp_path / "run"), uninterrupted, resumed_from=3)
    if language_model == "lora":
        file = "model/adapter/adapter_model.safetensors"
        assert (tmp_path / "run" / file).read_bytes() == (uninterrupted / file).read_bytes()


@pytest.mark.parametrize("language_model", ["lora", "frozen"])
def test_gradient_checkpointing_changes_no_loss(folder, language_model, request, tmp_path):
    stored = request.getfixturevalue({"lora": "by_lora"}.get(language_model, language_model))
    recomputed = run(settings_of(folder, language_model, gradient_checkpointing=True), folder, tmp_path / "run")
    for ours, theirs in zip(metrics(recomputed), metrics(stored), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_adapters_may_learn_at_a_rate_of_their_own(folder, by_lora, tmp_path):
    still = LORA.model_copy(update={"learning_rate": 1e-12})
    slow = run(settings_of(folder, "lora", lora=still), folder, tmp_path / "run")
    assert [row["lr"] for row in metrics(slow)] == [row["lr"] for row in metrics(by_lora)]
    state = load_file(slow / "model/adapter/adapter_model.safetensors")
    assert all(tensor.abs().max() < 1e-10 for name, tensor in state.items() if name.endswith("lora_B.weight"))
    moved = load_file(by_lora / "model/adapter/adapter_model.safetensors")
    assert all(tensor.abs().max() > 1e-3 for name, tensor in moved.items() if name.endswith("lora_B.weight"))
    start = load_file(folder / "aligned/projector/model.safetensors")["linear_1.weight"]
    assert (state["base_model.model.model.multi_modal_projector.linear_1.weight"] - start).abs().max() > 1e-3


def test_provenance_counts_what_was_trained(by_lora, frozen):
    facts = {path.name: json.loads((path / "provenance.json").read_text()) for path in (by_lora, frozen)}
    projector, experts = 2 * (16 * 16 + 16), 2 * 16 + 2 * 3 * 8 * 16
    # Queries and outputs 16 -> 16, keys and values 16 -> 16 (two heads of 8), MLP 16 -> 32 twice and 32 -> 16.
    adapters = 2 * 2 * (4 * (16 + 16) + 3 * (16 + 32))
    assert facts["frozen"]["trained_parameters"] == projector + experts
    assert facts["by_lora"]["trained_parameters"] == projector + experts + adapters
    assert facts["frozen"]["parameters"] == facts["by_lora"]["parameters"] > projector + experts + adapters
    assert facts["by_lora"]["settings"]["recipe"]["language_model"] == "lora"


# --- what the user may say -------------------------------------------------------------------------------------------

CONFIG = "config/config.yaml"


def test_an_unknown_layer_is_named(folder):
    lora = LORA.model_copy(update={"target_modules": ("q_proj", "c_attn")})
    model, _ = build(settings_of(folder, "lora"))
    known = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(UserError, match=rf"^tune\.lora\.target_modules: .* no linear layer c_attn; it has {known}$"):
        add_adapters(model, lora, seed=0)


@pytest.mark.parametrize(
    ("stage", "said", "message"),
    [
        ("tune", {"language_model": "qlora"}, r"tune\.language_model: expected 'full', 'lora' or 'frozen'"),
        ("tune", {"lora": {"rank": 0}}, r"tune\.lora\.rank: expected greater than 0"),
        ("tune", {"lora": {"r": 8}}, r"tune\.lora\.r: unknown key"),
        ("tune", {"lora": {"target_modules": []}}, r"tune\.lora\.target_modules: expected at least one entry"),
        ("align", {"language_model": "frozen"}, r"align\.language_model: unknown key"),
    ],
)
def test_what_does_not_fit_is_one_line(stage, said, message):
    with pytest.raises(UserError, match=rf"^config: {message}.*$") as error:
        Suite(overlay(load_config(CONFIG), {stage: said}))
    assert "\n" not in str(error.value)


def test_adapters_of_a_run_that_trains_none_are_refused(tmp_path):
    for name in ("datasets", "benchmarks", "images"):
        (tmp_path / f"{name}.yaml").write_text(Path(f"config/{name}.yaml").read_text())
    (tmp_path / "runs.yaml").write_text("wide: {tune: {lora: {rank: 64}}}\n")
    with pytest.raises(UserError, match=r"runs\.yaml: wide: tune\.lora: expected tune\.language_model lora beside it$"):
        Suite(load_config(CONFIG), catalogues=tmp_path).run("wide")


def test_runs_share_stage_1_whatever_becomes_of_the_language_model():
    suite = Suite.load((CONFIG,))
    runs = [suite.run(name) for name in ("parrot", "lora", "frozen_llm")]
    assert [run.tune.recipe.language_model for run in runs] == ["full", "lora", "frozen"]
    assert len({run.stage1_key for run in runs}) == 1
    assert [suite.trained_as[run.name] for run in runs] == ["parrot", "lora", "frozen_llm"]


def test_adapters_count_only_where_they_train():
    raw = load_config(CONFIG)
    wide = Suite(overlay(raw, {"tune": {"lora": {"rank": 64}}}))
    assert wide.run("parrot").tune == Suite(raw).run("parrot").tune
    assert wide.run("lora").tune.recipe.lora.rank == 64 != Suite(raw).run("lora").tune.recipe.lora.rank
