"""What is measured: models of given sizes and the batch that all of them get."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config

from parrot.constants import IGNORE_INDEX
from parrot.model import ParrotConfig, ParrotForConditionalGeneration
from parrot.model.flops import Sample, training_flops
from tests.bench.plain import PlainParrot

PLAIN, LLAVA, OURS, NO_EXPERTS = SUBJECTS = ("plain transcription", "Llava", "ours", "ours without experts")
SYSTEM = 20  # text tokens in front of the image


@dataclass(frozen=True)
class Size:
    """Sizes of models and batch; `supervised` counts the last text tokens of each sample."""

    vision: dict[str, int]
    text: dict[str, int]
    experts: int
    expert_width: int
    batch: int = 16
    text_tokens: int = 80
    supervised: int = 40

    @property
    def vocabulary(self) -> int:
        return self.text["vocab_size"]

    @property
    def image_token(self) -> int:
        return self.vocabulary - 1  # Llava looks its placeholder up, so it lies inside the vocabulary

    def parrot_config(self, **fields: Any) -> ParrotConfig:
        return ParrotConfig(
            vision_config=CLIPVisionConfig(**self.vision),
            text_config=Qwen2Config(**self.text, tie_word_embeddings=False),
            image_token_id=self.image_token,
            **{"num_experts": self.experts, "expert_intermediate_size": self.expert_width} | fields,
        )

    def sample(self) -> Sample:
        predicted = min(self.supervised, self.text_tokens + self.parrot_config().num_image_tokens - 1)
        return Sample(self.text_tokens, max(0, self.text_tokens - self.supervised), predicted)


def small(vocabulary: int) -> Size:
    """6 vision layers of 256 on 64 patches, 4 language-model layers of 256 in Qwen's proportions, 6 experts of 512."""
    return Size(
        vision=_layers(256, 1024, 6, 4) | {"image_size": 64, "patch_size": 8},
        text=_layers(256, 688, 4, 4) | {"num_key_value_heads": 4, "vocab_size": vocabulary},
        experts=6,
        expert_width=512,
    )


def qwen_1_8b() -> Size:
    """CLIP ViT-L/14-336 (577 visual tokens), Qwen1.5-1.8B, 6 experts of 4096."""
    return Size(
        vision=_layers(1024, 4096, 24, 16) | {"image_size": 336, "patch_size": 14},
        text=_layers(2048, 5504, 24, 16) | {"num_key_value_heads": 16, "vocab_size": 151_936},
        experts=6,
        expert_width=4096,
    )


def qwen_7b() -> Size:
    """The same encoder and experts, Qwen1.5-7B."""
    text = _layers(4096, 11008, 32, 32) | {"num_key_value_heads": 32, "vocab_size": 151_936}
    return replace(qwen_1_8b(), text=text)


def mini() -> Size:
    """The mini scale: 26 visual tokens, about two million parameters."""
    return Size(
        vision=_layers(128, 512, 4, 4) | {"image_size": 40, "patch_size": 8},
        text=_layers(128, 344, 4, 4) | {"num_key_value_heads": 2, "vocab_size": 4_000},
        experts=6,
        expert_width=128,
    )


def tiny() -> Size:
    """Small enough to try the code on any machine."""
    return Size(
        vision=_layers(16, 32, 3, 2) | {"image_size": 12, "patch_size": 4},
        text=_layers(16, 32, 2, 2) | {"num_key_value_heads": 2, "vocab_size": 300},
        experts=3,
        expert_width=8,
        batch=4,
    )


def _layers(width: int, inner: int, depth: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
    }


def build(subject: str, size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32, **fields: Any) -> Any:
    """A model in training mode, vision encoder frozen, everything else trained, as in stage 2.

    Weights come from one seed: the plain transcription's are our model's, Llava's are our model's without experts.
    `fields` are our configuration's.
    """
    torch.manual_seed(0)
    if subject in (LLAVA, NO_EXPERTS):
        fields["num_experts"] = 0
    with torch.device(device):
        model: Any = ParrotForConditionalGeneration(size.parrot_config(**fields)).to(dtype)
        if subject == LLAVA:
            state = model.state_dict()
            model = LlavaForConditionalGeneration(_llava_config(size)).to(dtype)
            model.load_state_dict(state)
    model.model.vision_tower.requires_grad_(False)
    return (PlainParrot(model) if subject == PLAIN else model).train()


def _llava_config(size: Size) -> LlavaConfig:
    """The same features as ours: layer -2 with the class token."""
    ours = size.parrot_config()
    return LlavaConfig(
        vision_config=ours.vision_config,
        text_config=ours.text_config,
        image_token_index=size.image_token,
        image_seq_length=ours.num_image_tokens,
        vision_feature_layer=ours.vision_feature_layer,
        vision_feature_select_strategy="full",
        tie_word_embeddings=False,
    )


def batch(size: Size, device: str = "cpu", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """One image a sample, behind the system prompt; no padding, so no attention mask."""
    generator = torch.Generator().manual_seed(1)
    visual = size.parrot_config().num_image_tokens
    length = size.text_tokens + visual
    ids = torch.randint(size.image_token, (size.batch, length), generator=generator)
    labels = torch.where(torch.arange(length) >= length - size.supervised, ids, IGNORE_INDEX)
    ids[:, SYSTEM : SYSTEM + visual] = size.image_token
    pixels = torch.randn(size.batch, 3, size.vision["image_size"], size.vision["image_size"], generator=generator)
    tensors = {"input_ids": ids, "labels": labels, "pixel_values": pixels.to(dtype)}
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def backward(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Loss and gradients of one step; earlier gradients are dropped first."""
    model.zero_grad(set_to_none=True)
    loss = model(**inputs) if isinstance(model, PlainParrot) else model(**inputs, use_cache=False).loss
    loss.backward()
    return loss.detach()


def gradient_norm(model: nn.Module) -> float:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def operations(subject: str, size: Size, needed: bool = False) -> int:
    """What a subject's matrix products of a step come to, or only those that its equations need."""
    config = size.parrot_config(**{"num_experts": 0} if subject in (LLAVA, NO_EXPERTS) else {})
    sample = size.sample()
    if subject in (PLAIN, LLAVA) and not needed:  # every layer of the encoder, the head at every position
        config.vision_feature_layer = -1
        sample = sample._replace(supervised=size.text_tokens + config.num_image_tokens)
    return sum(training_flops(config, [sample] * size.batch).values())
