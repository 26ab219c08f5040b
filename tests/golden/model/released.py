"""The released checkpoint's tensors and batches in this model's terms."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig

from parrot.model import ParrotConfig, ParrotForConditionalGeneration, ParrotImageProcessor, ParrotProcessor

RENAMED = {
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "lm_head.": "lm_head.",
}
EXPERTS = "model.moe_model.experts."


def load_released(folder: Path, variant: str) -> tuple[ParrotForConditionalGeneration, ParrotProcessor]:
    """The model of `folder`/checkpoint, in evaluation mode."""
    released = json.loads((folder / f"variants/{variant}.config.json").read_text())
    vision = json.loads((folder / released["mm_vision_tower"] / "config.json").read_text())
    processor = ParrotProcessor(
        ParrotImageProcessor.from_pretrained(folder / "clip-vit-tiny-patch7-28"),
        AutoTokenizer.from_pretrained(folder / "checkpoint"),
        num_image_tokens=17,
    )
    config = ParrotConfig(
        vision_config=vision,
        text_config={**released, "model_type": "qwen2"},
        image_token_id=processor.image_token_id,
        projector_type=released["mm_projector_type"],
        vision_feature_layer=released["mm_vision_select_layer"],
        num_experts=released["num_experts"] if released["use_moe"] else 0,
        expert_intermediate_size=released["moe_intermediate_size"],
        moe_weight=released["moe_weight"] if released["use_moe_residual"] else 0.0,
    )
    model = ParrotForConditionalGeneration(config)
    model.load_state_dict(renamed(load_file(folder / "checkpoint/model.safetensors"), config.num_experts))
    model.generation_config = GenerationConfig.from_pretrained(folder / "checkpoint")
    return model.eval(), processor


def renamed(released: dict[str, Tensor], num_experts) -> dict[str, Tensor]:
    """Tensors by this model's names; experts are stacked, their down projections transposed."""
    state, experts = {}, {}
    for name, tensor in released.items():
        if name.startswith(EXPERTS):
            index, kind, _ = name.removeprefix(EXPERTS).split(".")
            if int(index) < num_experts:
                experts.setdefault(kind, {})[int(index)] = tensor.T if kind == "down_proj" else tensor
        elif "moe_model.gate" in name:
            if num_experts:
                state["model.expert_block.router.weight"] = tensor[:num_experts]
        else:
            prefix = next((prefix for prefix in RENAMED if name.startswith(prefix)), "model.")
            state[RENAMED.get(prefix, "model.language_model.") + name.removeprefix(prefix)] = tensor
    for kind, tensors in experts.items():
        state[f"model.expert_block.experts.{kind}"] = torch.stack([tensors[index] for index in sorted(tensors)])
    return state


def released_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """This model's tensors by the released names."""
    back = {ours: theirs for theirs, ours in RENAMED.items()}
    found = {}
    for name, tensor in tensors.items():
        if name.startswith("model.expert_block.experts."):
            kind = name.rsplit(".", 1)[1]
            for index, one in enumerate(tensor):
                found[f"{EXPERTS}{index}.{kind}.weight"] = one.T if kind == "down_proj" else one
        elif name == "model.expert_block.router.weight":
            found["model.moe_model.gate.weight"] = tensor
        elif name.startswith("model.language_model."):
            found["model." + name.removeprefix("model.language_model.")] = tensor
        else:
            prefix = next(prefix for prefix in back if name.startswith(prefix))
            found[back[prefix] + name.removeprefix(prefix)] = tensor
    return found
