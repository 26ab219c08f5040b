"""Counted operations against those that torch counts while a small model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import SiglipVisionConfig

from parrot.evaluate.generate import generate
from parrot.model.flops import STAGE_2, Question, Sample, prediction_flops, recomputed_flops, training_flops
from tests.helpers.tiny_model import VISUAL_TOKENS, VOCABULARY, images, row, tiny_config, tiny_model

TEXT, PROMPT, ANSWER, SAMPLES = 12, 7, 4, 3
LENGTH = TEXT + VISUAL_TOKENS
SAMPLE = Sample(TEXT, PROMPT, ANSWER)
VARIANTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, STAGE_2),
    ({"expert_type": "two_layer", "router": "image"}, STAGE_2),
    ({"projector_type": "linear", "vision_feature_layer": 1, "router": "uniform"}, STAGE_2),
    ({}, ("projector", "experts")),
    ({"num_experts": 0}, STAGE_2),
    ({"num_experts": 0}, ("projector",)),
]


def counted(fields: dict[str, Any], trained: tuple[str, ...]) -> int:
    """What torch counts, less the half of the language model's attention that eager attention computes and masks."""
    model = tiny_model(**fields).train()
    model.set_attn_implementation("eager")  # torch counts the flash kernel's recomputation, too
    places = {"projector": "multi_modal_projector", "experts": "expert_block", "language_model": "language_model"}
    words = [places[part] for part in trained] + ["lm_head"] * ("language_model" in trained)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(word in name for word in words))
    ids = torch.tensor([row(3, "image", TEXT - 3, seed=seed) for seed in range(SAMPLES)])
    labels = torch.where(torch.arange(LENGTH) >= LENGTH - ANSWER, ids, -100)
    read = torch.tensor([row(PROMPT, seed=seed) for seed in range(SAMPLES)])
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=labels, pixel_values=images(SAMPLES), router_input_ids=read).loss.backward()
    text = model.config.text_config
    masked_pairs = LENGTH * (LENGTH - 1) // 2
    masked = 3 * 2 * 2 * masked_pairs * text.hidden_size * text.num_hidden_layers * SAMPLES
    return counter.get_total_flops() - masked


def counted_prediction(fields: dict[str, Any], questions: int, shown: int) -> int:
    """As `counted`, of answers to so many questions about each of `shown` images."""
    model = tiny_model(**fields)
    model.set_attn_implementation("eager")
    model.generation_config.eos_token_id = -1  # never generated, so that every answer has its full length
    prompts = [np.array(row(3, "image", TEXT - 3, seed=seed)) for seed in range(questions * shown)]
    with FlopCounterMode(display=False) as counter:
        features = model.encode_images(images(shown)).repeat_interleave(questions, 0)
        generate(
            model, prompts, features, ANSWER, router={"router_input_ids": torch.tensor([row(TEXT)] * len(prompts))}
        )
    text = model.config.text_config
    masked_pairs = LENGTH * (LENGTH - 1) // 2
    return counter.get_total_flops() - 2 * 2 * masked_pairs * text.hidden_size * text.num_hidden_layers * len(prompts)


@pytest.mark.parametrize(("fields", "trained"), VARIANTS, ids=str)
def test_operations_equal_torch_s_count(fields, trained):
    assert sum(training_flops(tiny_config(**fields), [SAMPLE] * SAMPLES, trained).values()) == counted(fields, trained)


@pytest.mark.parametrize(
    "fields", [{}, {"num_experts": 0}, {"expert_type": "two_layer", "router": "image"}, {"router": "uniform"}], ids=str
)
def test_operations_of_prediction_equal_torch_s_count(fields):
    parts = prediction_flops(tiny_config(**fields), [Question(TEXT, ANSWER)] * 6, images=2)
    assert sum(parts.values()) == counted_prediction(fields, questions=3, shown=2)


def test_a_question_in_words_alone_costs_no_image():
    parts = prediction_flops(tiny_config(), [Question(TEXT, 1, images=0)], images=0)
    assert [name for name, count in parts.items() if count] == ["language_model", "lm_head"]
    assert parts["lm_head"] == 2 * 16 * VOCABULARY


def test_checkpointing_repeats_the_forward_pass_of_the_layers():
    tokens, width, inner, keys = LENGTH, 16, 32, 8
    weights = 2 * width * width + 2 * width * keys + 3 * width * inner
    expected = 2 * (2 * tokens * weights + 2 * 2 * tokens * (tokens + 1) // 2 * width)  # in 2 layers
    assert recomputed_flops(tiny_config(), [SAMPLE] * 3) == 3 * expected


def test_only_the_experts_that_an_image_uses_are_counted():
    cost = {k: training_flops(tiny_config(moe_top_k=k, router="language"), [SAMPLE])["expert_block"] for k in (1, 2, 3)}
    assert cost[2] == 2 * cost[1]
    assert cost[3] == 3 * cost[1]


def test_an_encoder_without_class_token_has_one_token_less():
    sizes = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = SiglipVisionConfig(**sizes, image_size=12, patch_size=4)
    config = tiny_config(vision_config=vision, vision_feature_layer=-1)
    patches, weights = 9, 4 * 12 * 12 + 2 * 12 * 24
    expected = 2 * patches * 3 * 4 * 4 * 12 + 2 * patches * weights + 2 * 2 * patches * patches * 12
    assert training_flops(config, [SAMPLE])["vision_tower"] == expected


def test_text_alone_costs_nothing_but_the_language_model():
    parts = training_flops(tiny_config(), [Sample(TEXT, PROMPT, ANSWER, images=0)])
    assert [name for name, count in parts.items() if count] == ["language_model", "lm_head"]
    assert parts["lm_head"] == 3 * 2 * ANSWER * 16 * VOCABULARY
