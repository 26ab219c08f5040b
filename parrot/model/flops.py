"""Floating-point operations that a training step has to compute, from the model's sizes and the samples' lengths alone.

Counted are the matrix products, two operations a multiply-add, each only where something needs it: padding, positions
that causal attention masks, recomputed activations, encoder layers above the features, experts that a picture does not
use and logits of unsupervised positions cost nothing. A product has up to three parts of equal cost: the result, the
gradient of its input, and the gradient of its weights. A frozen module computes no gradient of its weights, and none of
its input either where nothing trained lies before it, as in the vision encoder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from parrot.model.configuration import ParrotConfig

Part = Literal["projector", "experts", "language_model"]
STAGE_2: tuple[Part, ...] = ("projector", "experts", "language_model")


class Sample(NamedTuple):
    """Counts of one sample's text tokens (without visual ones), of those that the router reads, of the supervised ones,
    and of its pictures."""

    text: int
    prompt: int
    supervised: int
    pictures: int = 1


def training_flops(
    config: ParrotConfig, samples: Iterable[Sample], trained: Collection[Part] = STAGE_2
) -> dict[str, int]:
    """Operations of one forward and backward pass over `samples`, by part of the model.

    `trained` names the parts that get gradients; the projector is always one, as in both stages. Low-rank adapters are
    left out: a language model tuned by them costs what a frozen one does and a little more.
    """
    assert "projector" in trained, "every stage trains the projector"
    samples = list(samples)
    pictures = sum(sample.pictures for sample in samples)
    parts = {
        "vision_tower": pictures * _vision_tower(config),
        "projector": pictures * _projector(config),
        "language_model": sum(_language_model(config, sample, "language_model" in trained) for sample in samples),
        "lm_head": sum(_lm_head(config, sample, "language_model" in trained) for sample in samples),
    }
    if config.num_experts:
        parts["expert_block"] = pictures * _experts(config, "experts" in trained)
        if config.router in ("text", "shuffled_text"):
            parts["expert_block"] += sum(_pooling(config, sample, "language_model" in trained) for sample in samples)
    return parts


def _vision_tower(config: ParrotConfig) -> int:
    """One picture, forward only, up to the layer whose features are taken."""
    vision = config.vision_config
    width, patches = vision.hidden_size, (vision.image_size // vision.patch_size) ** 2
    tokens = patches + (vision.model_type == "clip_vision_model")  # its class token
    depth = config.vision_feature_layer % (vision.num_hidden_layers + 1)
    layer = _product(tokens, 4 * width * width + 2 * width * vision.intermediate_size)
    layer += 2 * _product(tokens * tokens, width)  # every token attends to every token: scores and their values
    return _product(patches, 3 * vision.patch_size**2 * width) + depth * layer


def _projector(config: ParrotConfig) -> int:
    """One picture. The features need no gradient, what enters the second layer does."""
    width = config.text_config.hidden_size
    first = 2 * _product(config.num_image_tokens, config.vision_config.hidden_size * width)
    second = 3 * _product(config.num_image_tokens, width * width)
    return first + second if config.projector_type == "mlp2x_gelu" else first


def _experts(config: ParrotConfig, trained: bool) -> int:
    """One picture: the experts that it uses and the router's own weights."""
    width, inner = config.text_config.hidden_size, config.expert_intermediate_size
    used = config.moe_top_k or config.num_experts
    layers = 3 if config.expert_type == "gated" else 2
    experts = (2 + trained) * _product(config.num_image_tokens, used * layers * width * inner)
    if config.router not in ("text", "shuffled_text", "image"):
        return experts
    return experts + (2 + trained) * _product(1, config.num_experts * width)


def _pooling(config: ParrotConfig, sample: Sample, embeddings_trained: bool) -> int:
    """The class token's attention to the prompt: scores, then the weighted sum, each a product of two activations."""
    return sample.pictures * 2 * (2 + embeddings_trained) * _product(sample.prompt, config.text_config.hidden_size)


def _language_model(config: ParrotConfig, sample: Sample, trained: bool) -> int:
    """One sample through all layers; gradients pass through them to the projector even where they are frozen."""
    text = config.text_config
    width, heads = text.hidden_size, text.num_attention_heads
    head_width = getattr(text, "head_dim", None) or width // heads
    tokens = sample.text + sample.pictures * config.num_image_tokens
    keys_values = 2 * text.num_key_value_heads
    weights = (2 * heads + keys_values) * head_width * width + 3 * width * text.intermediate_size
    linear = (2 + trained) * _product(tokens, weights)
    pairs = tokens * (tokens + 1) // 2
    attention = 3 * 2 * _product(pairs, heads * head_width)  # both factors of scores and values are activations
    return text.num_hidden_layers * (linear + attention)


def _lm_head(config: ParrotConfig, sample: Sample, trained: bool) -> int:
    return (2 + trained) * _product(sample.supervised, config.text_config.hidden_size * config.text_config.vocab_size)


def _product(rows: int, weights: int) -> int:
    return 2 * rows * weights
