"""The released checkpoint's tensors and batches in this model's terms."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from parrot.model import ParrotConfig, ParrotForConditionalGeneration

RENAMED = {
    "model.vision_tower.vision_tower.vision_model.": "model.vision_tower.",
    "model.mm_projector.0.": "model.multi_modal_projector.linear_1.",
    "model.mm_projector.2.": "model.multi_modal_projector.linear_2.",
    "model.moe_model.gate.": "model.expert_block.router.",
    "lm_head.": "lm_head.",
}
EXPERTS = "model.moe_model.experts."
RELEASED_IMAGE_TOKEN = -200


def load_released(folder: Path) -> ParrotForConditionalGeneration:
    """The model of `folder`/checkpoint, in evaluation mode."""
    released = json.loads((folder / "checkpoint/config.json").read_text())
    vision = json.loads((folder / released["mm_vision_tower"] / "config.json").read_text())
    config = ParrotConfig(
        vision_config=vision,
        text_config={**released, "model_type": "qwen2"},
        image_token_id=RELEASED_IMAGE_TOKEN,
        projector_type=released["mm_projector_type"],
        vision_feature_layer=released["mm_vision_select_layer"],
        num_experts=released["num_experts"],
        expert_intermediate_size=released["moe_intermediate_size"],
        moe_weight=released["moe_weight"],
    )
    model = ParrotForConditionalGeneration(config)
    model.load_state_dict(renamed(load_file(folder / "checkpoint/model.safetensors")))
    return model.eval()


def renamed(released: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by this model's names; experts are stacked, their down projections transposed."""
    state, experts = {}, {}
    for name, tensor in released.items():
        if name.startswith(EXPERTS):
            index, kind, _ = name.removeprefix(EXPERTS).split(".")
            experts.setdefault(kind, {})[int(index)] = tensor.T if kind == "down_proj" else tensor
        else:
            prefix = next((prefix for prefix in RENAMED if name.startswith(prefix)), "model.")
            state[RENAMED.get(prefix, "model.language_model.") + name.removeprefix(prefix)] = tensor
    for kind, tensors in experts.items():
        state[f"model.expert_block.experts.{kind}"] = torch.stack([tensors[index] for index in sorted(tensors)])
    return state


def expanded(batch: dict[str, Tensor], visual_tokens: int) -> dict[str, Tensor]:
    """A released batch with every image token repeated for its visual tokens, padded on the right."""
    rows = []
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        times = torch.where(ids[mask] == RELEASED_IMAGE_TOKEN, visual_tokens, 1)
        rows.append((ids[mask].repeat_interleave(times), labels[mask].repeat_interleave(times)))
    pad = torch.nn.utils.rnn.pad_sequence
    lengths = torch.tensor([len(ids) for ids, _ in rows])
    return {
        "input_ids": pad([ids for ids, _ in rows], batch_first=True),
        "labels": pad([labels for _, labels in rows], batch_first=True, padding_value=-100),
        "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long(),
    }
