"""Floating-point operations that training and prediction have to compute, from the model's sizes and lengths alone.

Counted are the matrix products, two operations a multiply-add, each only where something needs it: padding, positions
that causal attention masks, recomputed activations, encoder layers above the features, experts that an image does not
use and logits of unsupervised positions cost nothing. A product has up to three parts of equal cost: the result, the
gradient of its input, and the gradient of its weights. A frozen module computes no gradient of its weights, and none of
its input either where nothing trained lies before it, as in the vision encoder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from parrot.model.configuration_parrot import ParrotConfig

Part = Literal["projector", "experts", "language_model"]
STAGE_2: tuple[Part, ...] = ("projector", "experts", "language_model")
FORWARD = 1  # parts of a product that prediction and recomputation need: its result


class Sample(NamedTuple):
    """One sample's counts.

    Text tokens (without visual ones), those that the router reads, the supervised ones, and images.
    """

    text: int
    prompt: int
    supervised: int
    images: int = 1


class Question(NamedTuple):
    """One question's counts.

    Text tokens (without visual ones), generated ones, the end token included, and images.
    """

    text: int
    answer: int
    images: int = 1


def training_flops(
    config: ParrotConfig, samples: Iterable[Sample], trained: Collection[Part] = STAGE_2
) -> dict[str, int]:
    """Operations of one forward and backward pass over `samples`, by part of the model.

    `trained` names the parts that get gradients; the projector is always one, as in both stages. Low-rank adapters are
    left out: a language model tuned by them costs what a frozen one does and a little more.
    """
    assert "projector" in trained, "every stage trains the projector"
    samples = list(samples)
    images = sum(sample.images for sample in samples)
    tuned = 2 + ("language_model" in trained)
    parts = {
        "vision_tower": images * _vision_tower(config),
        # The features need no gradient, what enters the second layer does.
        "projector": images * _projector(config, 2, 3),
        "language_model": sum(_language_model(config, sample, tuned, 3) for sample in samples),
        "lm_head": tuned * sum(_lm_head(config, sample.supervised) for sample in samples),
    }
    if config.num_experts:
        parts["expert_block"] = images * (2 + ("experts" in trained)) * _experts(config)
        parts["expert_block"] += tuned * sum(sample.images * _pooling(config, sample.prompt) for sample in samples)
    return parts


def recomputed_flops(config: ParrotConfig, samples: Iterable[Sample]) -> int:
    """Operations that gradient checkpointing adds to `training_flops`: the language model's layers once more, forward.

    Nothing needs them but memory, so that they are no part of a model's utilisation.
    """
    return sum(_language_model(config, sample, FORWARD, FORWARD) for sample in samples)


def prediction_flops(config: ParrotConfig, questions: Iterable[Question], images: int) -> dict[str, int]:
    """Operations of answering `questions` about so many distinct images, by part of the model.

    An image is encoded once, whatever the number of questions about it; projector and experts, which the router's
    text guides, run once a question that has one. A question's prompt passes through the language model once, then
    every generated token but the last. Each generated token needs its logits.
    """
    questions = list(questions)
    shown = sum(question.images for question in questions)
    parts = {
        "vision_tower": images * _vision_tower(config),
        "projector": shown * _projector(config, FORWARD, FORWARD),
        "language_model": sum(_answering(config, question) for question in questions),
        "lm_head": sum(_lm_head(config, question.answer) for question in questions),
    }
    if config.num_experts:
        parts["expert_block"] = shown * _experts(config)
        parts["expert_block"] += sum(question.images * _pooling(config, question.text) for question in questions)
    return parts


def _vision_tower(config: ParrotConfig) -> int:
    """One image, forward only, up to the layer whose features are taken."""
    vision = config.vision_config
    width, patches = vision.hidden_size, (vision.image_size // vision.patch_size) ** 2
    tokens = patches + (vision.model_type == "clip_vision_model")  # its class token
    depth = config.vision_feature_layer % (vision.num_hidden_layers + 1)
    layer = _product(tokens, 4 * width * width + 2 * width * vision.intermediate_size)
    layer += 2 * _product(tokens * tokens, width)  # every token attends to every token: scores and their values
    return _product(patches, 3 * vision.patch_size**2 * width) + depth * layer


def _projector(config: ParrotConfig, first: int, second: int) -> int:
    """One image, by so many parts of its first and second layer's products."""
    width = config.text_config.hidden_size
    cost = first * _product(config.num_image_tokens, config.vision_config.hidden_size * width)
    if config.projector_type == "mlp2x_gelu":
        cost += second * _product(config.num_image_tokens, width * width)
    return cost


def _experts(config: ParrotConfig) -> int:
    """One image, forward: the experts that it uses and the router's own weights."""
    width, inner = config.text_config.hidden_size, config.expert_intermediate_size
    used = config.moe_top_k or config.num_experts
    layers = 3 if config.expert_type == "gated" else 2
    experts = _product(config.num_image_tokens, used * layers * width * inner)
    if config.router not in ("text", "shuffled_text", "image"):
        return experts
    return experts + _product(1, config.num_experts * width)


def _pooling(config: ParrotConfig, prompt: int) -> int:
    """Count the class token's attention to the prompt, forward: scores, then the weighted sum of activations."""
    if config.router not in ("text", "shuffled_text"):
        return 0
    return 2 * _product(prompt, config.text_config.hidden_size)


def _language_model(config: ParrotConfig, sample: Sample | Question, linear: int, attention: int) -> int:
    """One sequence through all layers, by so many parts of the products with weights and of those of attention.

    Gradients pass through frozen layers too, to the projector. Both factors of attention's products are activations.
    """
    tokens = sample.text + sample.images * config.num_image_tokens
    pairs = tokens * (tokens + 1) // 2
    return linear * _linear(config, tokens) + attention * _attention(config, pairs)


def _answering(config: ParrotConfig, question: Question) -> int:
    """Count a prompt, then the tokens before the last one by one: causal, so that together they cost the same."""
    read = question._replace(text=question.text + question.answer - 1)
    return _language_model(config, read, FORWARD, FORWARD)


def _linear(config: ParrotConfig, tokens: int) -> int:
    text = config.text_config
    width, heads = text.hidden_size, text.num_attention_heads
    weights = (2 * heads + 2 * text.num_key_value_heads) * _head_width(config) * width
    return text.num_hidden_layers * _product(tokens, weights + 3 * width * text.intermediate_size)


def _attention(config: ParrotConfig, pairs: int) -> int:
    """Scores and their values of so many pairs of tokens."""
    text = config.text_config
    return text.num_hidden_layers * 2 * _product(pairs, text.num_attention_heads * _head_width(config))


def _head_width(config: ParrotConfig) -> int:
    text = config.text_config
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _lm_head(config: ParrotConfig, tokens: int) -> int:
    """Count the logits of so many tokens."""
    return _product(tokens, config.text_config.hidden_size * config.text_config.vocab_size)


def _product(rows: int, weights: int) -> int:
    return 2 * rows * weights
