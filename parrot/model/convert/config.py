"""The released checkpoint's config.json and this model's configuration, in both directions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedConfig, Qwen2Config
from transformers.activations import ACT2FN

from parrot.config.base import StrictModel, validate
from parrot.errors import UserError
from parrot.model.configuration_parrot import ParrotConfig

RELEASED_TYPE = "parrot_qwen2"  # model_type of the released checkpoints
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

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, protected_namespaces=())

    model_type: Literal["parrot_qwen2"]
    torch_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    rope_theta: float = Field(10000.0, gt=0)
    mm_vision_tower: str
    mm_vision_select_layer: int
    mm_vision_select_feature: Literal["patch", "cls_patch"] = "patch"
    mm_projector_type: Literal["linear", "mlp2x_gelu"] = "linear"
    num_experts: int = Field(gt=0)
    moe_intermediate_size: int = Field(gt=0)
    use_moe: bool = True
    use_moe_residual: bool = True
    moe_weight: float = 1.0


# Whole numbers above 0 of a vision encoder's or a language model's configuration, where it has them.
_SIZES = (
    "hidden_size",
    "image_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_channels",
    "num_hidden_layers",
    "num_key_value_heads",
    "patch_size",
    "vocab_size",
)
_DTYPES = (None, "auto", "bfloat16", "float16", "float32", torch.bfloat16, torch.float16, torch.float32)


def check_sizes(part: PreTrainedConfig, where: str) -> None:
    """Check what a vision encoder's or a language model's configuration says before a model is made of it.

    Raises:
        UserError: a size is no whole number, or does not fit another; or there is no such activation or dtype.
    """
    for name in _SIZES:
        size = getattr(part, name, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= StrictModel.LARGEST:
            raise UserError(f"{where}: {name}: expected a whole number above 0, found {size!r:.60}")
    for name, whole in (("num_attention_heads", "hidden_size"), ("num_key_value_heads", "num_attention_heads")):
        has, size = getattr(part, name, 1), getattr(part, whole)
        if size % has:
            raise UserError(f"{where}: {name}: expected a divisor of {whole}, {size}, found {has}")
    if getattr(part, "patch_size", 1) > getattr(part, "image_size", 1):
        raise UserError(f"{where}: patch_size: expected at most image_size, {part.image_size}, found {part.patch_size}")
    if part.hidden_act not in ACT2FN:
        raise UserError(f"{where}: hidden_act: expected an activation of transformers, found {part.hidden_act!r:.60}")
    check_dtype(part, where)


def check_dtype(part: PreTrainedConfig, where: str) -> None:
    """Check that the released code knows a dtype.

    Raises:
        UserError: it does not.
    """
    if isinstance(part.dtype, dict) or part.dtype not in _DTYPES:
        raise UserError(f"{where}: dtype: expected float32, bfloat16 or float16, found {part.dtype!r:.60}")


def named_tower(released: dict[str, Any], where: str) -> str:
    """Get `mm_vision_tower`, the vision encoder's folder as the released code was given it."""
    return validate(_Released, released, where).mm_vision_tower


def parrot_config(
    released: dict[str, Any], where: str, vision_config: PreTrainedConfig, /, **more: Any
) -> ParrotConfig:
    """Return this model's configuration of a released one; `more` are fields that config.json does not decide.

    Raises:
        UserError: `where` is not a released config.json, or asks for what this model has not.
    """
    read = validate(_Released, released, where)
    if read.use_moe and read.mm_vision_select_feature == "patch":
        raise UserError(f"{where}: mm_vision_select_feature: experts need cls_patch, found patch")
    text = {name: released[name] for name in (*_TEXT, "sliding_window") if name in released}
    text_config = Qwen2Config(rope_theta=read.rope_theta, **text)
    check_sizes(text_config, where)
    return ParrotConfig(
        vision_config=vision_config,
        text_config=text_config,
        projector_type=read.mm_projector_type,
        vision_feature_layer=read.mm_vision_select_layer,
        vision_feature_select=read.mm_vision_select_feature,
        num_experts=read.num_experts if read.use_moe else 0,
        expert_intermediate_size=read.moe_intermediate_size,
        moe_weight=read.moe_weight if read.use_moe_residual else 0.0,
        dtype=read.torch_dtype,
        **more,
    )


# Written for a model trained here: what the released training writes beside, of no effect on a single image.
_BESIDE = {
    "architectures": ["ParrotQwen2ForCausalLM"],
    "freeze_mm_mlp_adapter": False,
    "mm_patch_merge_type": "flat",
    "mm_projector_lr": None,
    "model_type": RELEASED_TYPE,
    "tokenizer_padding_side": "right",
    "transformers_version": "4.39.0",
    "tune_mm_mlp_adapter": False,
    "use_cache": True,
    "use_mm_proj": True,
}
# The released code cannot leave experts out, only pass them by: without experts it gets one of width 1.
NO_EXPERTS = {"num_experts": 1, "moe_intermediate_size": 1}


def released_config(config: ParrotConfig, where: str, **more: Any) -> dict[str, Any]:
    """Return the config.json by which the released code computes what `config` describes.

    For an imported model this is the config.json that it came with, changed only where the model was changed. `more`
    are keys that `config` does not decide, for a model that was not imported.

    Raises:
        UserError: names the first field of `where`'s configuration that the released code cannot express.
    """
    for name, kind in (("vision_config", "clip_vision_model"), ("text_config", "qwen2")):
        if getattr(config, name).model_type != kind:
            raise UserError(f"{where}: {name}: the released code knows {kind}, not {getattr(config, name).model_type}")
        check_sizes(getattr(config, name), f"{where}: {name}")
    check_dtype(config, where)
    kept = config.released
    if kept is not None and not (_holds_mappings(kept) and "config.json" in kept):
        raise UserError(f"{where}: released: expected JSON files by name, config.json among them, found {kept!r:.60}")
    decided = _decided(config)
    if config.released is None:
        released = {**_BESIDE, **NO_EXPERTS, "moe_top_k": max(config.num_experts, 1), **decided, **more}
    else:
        released = config.released["config.json"]
        if _decided(parrot_config(released, where, config.vision_config)) != decided:
            released = released | decided
    _expressed(config, parrot_config(released, where, config.vision_config), where)
    return released


def _holds_mappings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def _decided(config: ParrotConfig) -> dict[str, Any]:
    """Return the keys of a released config.json that this model's configuration decides."""
    text = config.text_config
    keys = {name: getattr(text, name) for name in _TEXT}
    keys |= {
        "rope_theta": text.rope_parameters["rope_theta"],
        # 4.39's default, read only with use_sliding_window.
        "sliding_window": 4096 if text.sliding_window is None else text.sliding_window,
        "torch_dtype": str(config.dtype or "float32").removeprefix("torch."),
        "mm_hidden_size": config.vision_config.hidden_size,
        "mm_projector_type": config.projector_type,
        "mm_vision_select_layer": config.vision_feature_layer,
        "mm_vision_select_feature": config.vision_feature_select,
        "moe_hidden_size": text.hidden_size,
        "use_moe": config.num_experts > 0,
        "use_moe_residual": True,
        "moe_weight": config.moe_weight,
    }
    if config.num_experts:
        keys |= {"num_experts": config.num_experts, "moe_intermediate_size": config.expert_intermediate_size}
    return {name: value for name, value in keys.items() if value is not None}


# Fields with no say in what a trained model computes, or not for config.json to say.
_ASIDE = {"alpha", "image_token_id", "moe_top_k", "languages", "released", "router_balance"}
_OF_EXPERTS = {"expert_intermediate_size", "expert_type", "moe_weight", "residual", "router", "router_text"}


def _expressed(config: ParrotConfig, back: ParrotConfig, where: str) -> None:
    """Compare a configuration with what came back from its released form, field by field."""
    if config.num_experts and config.moe_top_k not in (None, config.num_experts):
        raise UserError(f"{where}: moe_top_k: the released code sums all {config.num_experts} experts")
    aside = _ASIDE | {"text_config", "vision_config"} | (set() if config.num_experts else _OF_EXPERTS)
    for prefix, ours, theirs in (("", config, back), ("text_config.", config.text_config, back.text_config)):
        for name in sorted(type(ours).__annotations__.keys() - aside):
            wanted, has = getattr(ours, name), getattr(theirs, name)
            if wanted != has:
                raise UserError(f"{where}: {prefix}{name}: the released code has {has!r}, not {wanted!r}")
