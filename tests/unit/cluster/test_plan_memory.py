"""What the plan says of memory, against tensors that exist and parameters that are published."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import Qwen2Config

from parrot.cluster.jobs import Job
from parrot.cluster.plan.cost import Costs
from parrot.cluster.plan.facts import planned_hardware, read_facts
from parrot.cluster.plan.memory import GIB, fits, kept_activations, memory, smallest
from parrot.cluster.plan.shapes import Parameters, Shapes
from parrot.config.hardware import TrainingHardware
from parrot.config.settings import Recipe
from parrot.config.suite import DEFAULT_CONFIG, Suite
from parrot.errors import UserError
from parrot.model import ParrotConfig, ParrotForConditionalGeneration
from parrot.model.build import trainable
from tests.helpers.tiny_model import IMAGE_TOKEN, collate, images, row, tiny_config, tiny_model
from tests.helpers.tiny_plan import tiny_suite


def recipe(**fields) -> Recipe:
    return Recipe(global_batch=8, learning_rate=0.1, epochs=1, **fields)


def size(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def batch(samples: int, text: int) -> dict[str, torch.Tensor]:
    """Samples of one image, all text behind it supervised."""
    ids = collate([row(1, "image", text - 1, seed=seed) for seed in range(samples)])["input_ids"]
    labels = torch.where((ids < 300) & (torch.arange(ids.shape[1]) > 1), ids, -100)
    return {"input_ids": ids, "labels": labels, "pixel_values": images(samples)}


@pytest.mark.parametrize("stage", ["align", "tune"])
def test_weights_gradients_and_states_are_those_of_a_real_step(stage):
    model = tiny_model(num_experts=3 * (stage == "tune")).train()
    names = trainable(model, stage)
    trained = [model.get_parameter(name) for name in names]
    optimizer = torch.optim.AdamW(trained, lr=0.1)
    model(**batch(1, 12)).loss.backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    numbers = Parameters(sum(p.numel() for p in model.parameters()), sum(p.numel() for p in trained), largest=0)
    kept = memory(model.config, numbers, recipe(), TrainingHardware(micro_batch=1), processes=1)
    assert kept.weights == size(model.parameters())
    assert kept.gradients == size(p.grad for p in trained)
    assert kept.optimizer == size(states)
    assert kept.buffers == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_about_those_that_a_step_keeps(checkpointing):
    text = Qwen2Config(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=172,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    config = ParrotConfig(
        vision_config=tiny_config().vision_config, text_config=text, num_experts=0, image_token_id=IMAGE_TOKEN
    )
    model = ParrotForConditionalGeneration(config).train()
    trainable(model, "tune")
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    weights, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch(4, 246)).loss
    assert loss.requires_grad
    found = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    settings = recipe(max_length=256, gradient_checkpointing=checkpointing)
    assert kept_activations(config, settings, micro_batch=4) == pytest.approx(found, rel=0.2)


BILLION = 10**9
NUMBERS = Parameters(8 * BILLION, 8 * BILLION, BILLION)


@pytest.mark.parametrize(
    ("strategy", "offload", "weights", "gradients", "optimizer"),
    [
        ("ddp", "none", 32, 32, 64),
        ("zero2", "none", 16, 2, 12),
        ("zero2", "optimizer", 16, 0, 0),
        ("zero3", "none", 2, 2, 12),
        ("zero3", "all", 0, 0, 0),
        ("fsdp2", "none", 4, 4, 8),
    ],
)
def test_what_each_of_eight_gpus_holds_of_8_billion_parameters(strategy, offload, weights, gradients, optimizer):
    hardware = TrainingHardware(micro_batch=1, strategy=strategy, offload=offload)
    kept = memory(tiny_config(), NUMBERS, recipe(precision="bf16"), hardware, processes=8)
    assert [part / BILLION for part in (kept.weights, kept.gradients, kept.optimizer)] == [
        weights,
        gradients,
        optimizer,
    ]
    assert kept.total == sum(kept) + 2 * GIB


def test_the_smallest_gpu_that_knows_the_precision():
    devices = read_facts().devices
    assert smallest(devices, 20 * GIB, "fp32") == "rtx4090"
    assert smallest(devices, 30 * GIB, "fp32") == "v100"
    assert smallest(devices, 30 * GIB, "bf16") == "l40s"
    assert smallest(devices, 142 * GIB, "fp32") is None


@pytest.fixture(scope="module")
def paper() -> Costs:
    return Costs(Suite.load((*DEFAULT_CONFIG, "config/paper.yaml")))


# Model cards: 7.72, 14.17, 32.51 and 7.62 billion; OpenAI's ViT-L/14 at 336 pixels 0.304 billion.
PUBLISHED = {
    "qwen15_7b_chat": 7.72,
    "qwen15_14b_chat": 14.17,
    "qwen15_32b_chat": 32.51,
    "qwen2_7b_instruct": 7.62,
    "clip_vit_large_336": 0.304,
}


@pytest.mark.parametrize(("backbone", "billions"), PUBLISHED.items())
def test_shapes_give_the_published_numbers_of_parameters(paper, backbone, billions):
    assert paper.shapes.backbone_parameters(backbone) / BILLION == pytest.approx(billions, abs=0.006)


def test_which_gpu_holds_the_paper_s_model(paper):
    suite, known = paper.suite, read_facts()
    jobs = [Job("align", suite.run("parrot").stage1_key), Job("tune", "parrot")]
    found = fits(jobs, paper, known, planned_hardware(suite.config.hardware, known))
    by = {(fit.stage, fit.tuning, fit.gpus, fit.strategy, fit.offload): fit for fit in found}
    # Sixteen bytes of each of 8 billion trained parameters do not fit one card of 80 GB, unless they are offloaded.
    whole = [by["tune", "full", 1, strategy, "none"] for strategy in ("ddp", "zero2", "zero3", "fsdp2")]
    assert all(fit.gib > 16 * 8.0e9 / GIB and fit.device in (None, "h200") for fit in whole)
    assert by["tune", "full", 1, "zero2", "optimizer"].gib < 80
    assert by["tune", "full", 8, "zero3", "none"].gib < 80
    assert by["tune", "full", 8, "ddp", "none"].device is None
    assert by["tune", "lora", 1, "zero2", "none"].device == "l40s"
    assert [(fit.stage, fit.strategy) for fit in found if fit.is_configured] == [("align", "zero2"), ("tune", "zero3")]


def test_a_backbone_whose_sizes_nobody_says(tmp_path):
    suite = tiny_suite(tmp_path, model={"vision_tower": "words"})
    with pytest.raises(UserError, match=r"^config/datasets\.yaml: words: shape: expected one, as none/backbone does"):
        Shapes(suite).config(suite.run("parrot"), "align")


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (
            {"vision_tower": "mini_qwen"},
            "qwen/config.json: model_type: expected a vision encoder, found qwen2",
        ),
        (
            {"language_model": "mini_clip"},
            "model_type: expected a language model, found clip_vision_model",
        ),
        ({"vision_feature_layer": 77}, "model.vision_feature_layer: expected -5 to 4, for the encoder's 4 layers"),
    ],
)
def test_settings_that_do_not_fit_the_backbones_are_one_line(model, line, tmp_path):
    (tmp_path / "over.yaml").write_text(json.dumps({"model": model}))
    suite = Suite.load((*DEFAULT_CONFIG, str(tmp_path / "over.yaml")))
    with pytest.raises(UserError) as refused:
        Shapes(suite).config(suite.run("parrot"), "align")
    assert line in str(refused.value)
