"""Configuration of a Parrot model: a vision encoder, a language model, a projector and routed experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from parrot.constants import PAPER_LANGUAGES


class ParrotConfig(PreTrainedConfig):
    """Sizes and switches of a `ParrotForConditionalGeneration`; the defaults are the released model's.

    Args:
        vision_config: any CLIP-like or SigLIP vision encoder, as a config or its dict (default: CLIP ViT).
        text_config: any decoder-only language model, as a config or its dict (default: Qwen2).
        image_token_id: placeholder of one visual token in `input_ids`; it may lie outside the language model's
            vocabulary, since it is never looked up there.
        projector_type: `linear`, or `mlp2x_gelu` (Linear-GELU-Linear).
        vision_feature_layer: index into the encoder's hidden states, 0 being its embeddings and -1 its last layer.
        vision_feature_select: `cls_patch` keeps the class token in front of the patches (an encoder without one, as
            SigLIP, gets the mean of its patches in its place); `patch` keeps the patches alone, without experts only.
        num_experts: number of experts; 0 leaves the expert block out (LLaVA).
        expert_intermediate_size: inner width of one expert.
        expert_type: `gated`, down(silu(gate x) * up x), the released code's; or `two_layer`, down(silu(up x)), the
            paper's. Neither has biases.
        moe_top_k: experts that an image uses, their weights scaled to sum to 1; None: all of them.
        residual: `released`, experts' sum + `moe_weight` x visual tokens; or `paper` (equation 5), visual tokens +
            `alpha` x experts' sum.
        moe_weight: see `residual`.
        alpha: see `residual`; the paper does not state its value.
        router: what weighs the experts: `text`, the prompt as seen from the class token; `shuffled_text`, the same
            with another sample's prompt, which the caller passes as `router_input_ids`; `uniform`, all alike;
            `language`, the sample's language as `language_ids`; or `image`, the class token alone.
        router_text: what of the prompt the router reads: `prompt`, the system prompt, role markers and the user's
            turns; or `user`, the user's words alone, which the caller marks in `router_mask`.
        router_balance: coefficient of the load-balancing loss that training adds; the released code has none.
        languages: codes of the languages that the router `language` knows, in the order of its rows.
        released: the JSON files of the released checkpoint that this model was imported from, by name, so that an
            export gives back what has no counterpart here; None for a model that was not imported.
    """

    model_type = "parrot"
    sub_configs: ClassVar[dict[str, type]] = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: Any = None  # a dict or a config going in, a config from then on
    text_config: Any = None
    image_token_id: int = 151646
    projector_type: Literal["linear", "mlp2x_gelu"] = "mlp2x_gelu"
    vision_feature_layer: int = -2
    vision_feature_select: Literal["cls_patch", "patch"] = "cls_patch"
    num_experts: int = 6
    expert_intermediate_size: int = 4096
    expert_type: Literal["gated", "two_layer"] = "gated"
    moe_top_k: int | None = None  # transformers keeps the name top_k for sampling
    residual: Literal["released", "paper"] = "released"
    moe_weight: float = 0.1
    alpha: float = 1.0
    router: Literal["text", "uniform", "shuffled_text", "language", "image"] = "text"
    router_text: Literal["prompt", "user"] = "prompt"
    router_balance: float = 0.0
    languages: Sequence[str] = PAPER_LANGUAGES
    tie_word_embeddings: bool = False
    released: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = _sub_config(self.vision_config, "clip_vision_model")
        self.text_config = _sub_config(self.text_config, "qwen2")
        self.languages = list(self.languages)
        self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        if self.moe_top_k is not None and self.num_experts and not 1 <= self.moe_top_k <= self.num_experts:
            raise ValueError(f"moe_top_k: expected 1 to {self.num_experts}, num_experts, found {self.moe_top_k}")
        layers = self.vision_config.num_hidden_layers
        if not -layers - 1 <= self.vision_feature_layer <= layers:  # an index modulo the layers would be one
            expected = f"expected {-layers - 1} to {layers}, for the encoder's {layers} layers"
            raise ValueError(f"vision_feature_layer: {expected}, found {self.vision_feature_layer}")
        if self.vision_feature_select == "patch" and self.num_experts:
            raise ValueError("vision_feature_select: patch leaves the experts' router without its class token")
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As transformers' own, which takes any model's fields for its own; ValueError for another model_type."""
        kind = config_dict.get("model_type", cls.model_type)
        if kind != cls.model_type:
            raise ValueError(
                f"model_type: expected {cls.model_type}, found {kind}; a released checkpoint's folder is loaded by "
                "parrot.model.checkpoint.load and imported by `parrot import-released`"
            )
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_image_tokens(self) -> int:
        """Visual tokens per image: its patches, and the class token if that is kept."""
        patches = (self.vision_config.image_size // self.vision_config.patch_size) ** 2
        return patches + (self.vision_feature_select == "cls_patch")


def _sub_config(value: dict[str, Any] | PreTrainedConfig | None, default_type: str) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    fields = dict(value or {})
    return CONFIG_MAPPING[fields.pop("model_type", default_type)](**fields)
