"""The released checkpoint's config.json and this model's configuration, in both directions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedConfig, Qwen2Config

from parrot.config import validate
from parrot.model.configuration import ParrotConfig

PADDING = "<|endoftext|>"

# What transformers 4.39's Qwen2Config has; rope_theta is nested here.
_TEXT = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "tie_word_embeddings",
    "attention_dropout",
    "use_sliding_window",
    "max_window_layers",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


class _Released(BaseModel):
    """The keys of a released config.json that decide what the model computes, with the released code's defaults.

    `moe_top_k` is not among them: the released code stores it and sums all experts whatever it says.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model_type: Literal["parrot_qwen2"]
    torch_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    rope_theta: float = 10000.0
    mm_vision_tower: str
    mm_vision_select_layer: int
    mm_vision_select_feature: Literal["patch", "cls_patch"] = "patch"
    mm_projector_type: Literal["linear", "mlp2x_gelu"] = "linear"
    num_experts: int = Field(gt=0)
    moe_intermediate_size: int = Field(gt=0)
    use_moe: bool = True
    use_moe_residual: bool = True
    moe_weight: float = 1.0


def vision_tower(released: dict[str, Any], where: str) -> str:
    """`mm_vision_tower`, the vision encoder's folder as the released code was given it."""
    return validate(_Released, released, where).mm_vision_tower


def parrot_config(
    released: dict[str, Any], where: str, vision_config: PreTrainedConfig, /, **more: Any
) -> ParrotConfig:
    """This model's configuration of a released one; `more` are fields that config.json does not decide.

    Raises:
        ConfigError: `where` is not a released config.json, or asks for what this model has not.
    """
    read = validate(_Released, released, where)
    text = {name: released[name] for name in (*_TEXT, "sliding_window") if name in released}
    return ParrotConfig(
        vision_config=vision_config,
        text_config=Qwen2Config(rope_theta=read.rope_theta, **text),
        projector_type=read.mm_projector_type,
        vision_feature_layer=read.mm_vision_select_layer,
        vision_feature_select=read.mm_vision_select_feature,
        num_experts=read.num_experts if read.use_moe else 0,
        expert_intermediate_size=read.moe_intermediate_size,
        moe_weight=read.moe_weight if read.use_moe_residual else 0.0,
        dtype=read.torch_dtype,
        **more,
    )
