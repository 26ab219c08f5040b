"""The released checkpoint's tensors and this model's, by name.

The released code keeps the language model at `model.`, nests the vision encoder in two wrappers, and has one module
an expert where this model stacks all experts' weights, the down projections transposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from parrot.errors import UserError
from parrot.model.configuration_parrot import ParrotConfig
from parrot.model.convert.config import NO_EXPERTS
from parrot.model.modeling_parrot import ParrotForConditionalGeneration
from parrot.model.tokenizer import reading
from parrot.model.weights import Header, check, headers, reader

SIZES = "sizes and switches that make a model"  # as an error says it
_BLOCK = "model.expert_block."
_EXPERTS = f"{_BLOCK}experts."
_RENAMED = (
    ("model.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("model.expert_block.router.", "model.moe_model.gate."),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
)
_PROJECTOR = {
    "linear": (("model.multi_modal_projector.linear_1.", "model.mm_projector."),),
    "mlp2x_gelu": (
        ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ),
}


def shapes(config: ParrotConfig) -> dict[str, Tensor]:
    """Return this model's tensors by name, without memory, in the model's order; a tied head is left out."""
    with torch.device("meta"):
        state = ParrotForConditionalGeneration(config).state_dict()
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    return state


def optional_tensors(config: ParrotConfig) -> set[str]:
    """Tensors that a file may hold and need not, by their name in either layout: the second copy of a tied head."""
    return {"lm_head.weight"} if config.tie_word_embeddings else set()


def layout(config: ParrotConfig) -> dict[str, dict[str, Tensor]]:
    """For each tensor of this model, those of the released layout in its place, without memory.

    Router and experts are there even if `config` has none: the released code then passes them by, but has them.
    """
    sizes = NO_EXPERTS if config.released is None else config.released["config.json"]
    block = {
        "num_experts": sizes["num_experts"],
        "expert_intermediate_size": sizes["moe_intermediate_size"],
        "expert_type": "gated",
        "moe_top_k": None,
        "router": "text",
        "vision_feature_select": "cls_patch",  # experts need it, and no shape depends on it
    }
    whole = config if config.num_experts else type(config).from_dict(config.to_dict() | block)
    return {name: released_parts(name, tensor, whole) for name, tensor in shapes(whole).items()}


def unused_tensors(config: ParrotConfig) -> dict[str, Tensor]:
    """Return the part of `layout` that this model has no tensors for, by released names."""
    parts = {} if config.num_experts else layout(config)
    return {each: tensor for name, part in parts.items() if name.startswith(_BLOCK) for each, tensor in part.items()}


def released_parts(name: str, tensor: Tensor, config: ParrotConfig) -> dict[str, Tensor]:
    """Return the released layout's tensors for this model's tensor `name`: itself, or one tensor per expert."""
    if name.startswith(_EXPERTS):
        kind = name.removeprefix(_EXPERTS)
        turned = tensor.mT if kind == "down_proj" else tensor
        return {f"model.moe_model.experts.{index}.{kind}.weight": expert for index, expert in enumerate(turned)}
    for ours, theirs in (*_RENAMED, *_PROJECTOR[config.projector_type]):
        if name.startswith(ours):
            return {theirs + name.removeprefix(ours): tensor}
    raise AssertionError(f"{name} has no counterpart in the released layout")


def from_parts(name: str, parts: Sequence[Tensor]) -> Tensor:
    """Return this model's tensor `name` from the parts that `released_parts` gives; dtypes are kept."""
    if name.startswith(_EXPERTS):
        return torch.stack([part.mT if name.endswith(".down_proj") else part for part in parts])
    (tensor,) = parts
    return tensor


def read_tensors(folder: Path, config: ParrotConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return this model's tensors from the released weights of `folder`, and the released ones that it has no use for.

    The latter are a tied head's second copy, and router and experts where `use_moe` is false: the released code
    builds and saves those all the same. Nothing is read before names and shapes are checked.

    Raises:
        UserError: names the first tensor that is missing, wrongly shaped, unexpected or of another dtype.
    """
    found = headers(folder)
    with reading(folder / "config.json", SIZES):
        parts, aside = layout(config), unused_tensors(config)
    check(
        folder,
        found,
        {name: tensor for part in parts.values() for name, tensor in part.items()},
        optional_tensors(config),
    )
    for part in parts.values():
        _one_dtype(folder, found, list(part))
    read = reader(found)
    tensors = {
        name: from_parts(name, [read(each) for each in part])
        for name, part in parts.items()
        if not aside.keys() & part.keys()
    }
    return tensors, {name: read(name) for name in found if name in aside or name in optional_tensors(config)}


def _one_dtype(folder: Path, found: dict[str, Header], names: list[str]) -> None:
    """Stacked experts have one dtype."""
    for name in names[1:]:
        if found[name].dtype != found[names[0]].dtype:
            raise UserError(
                f"{folder}: {name}: expected {found[names[0]].dtype} like {names[0]}, found {found[name].dtype}"
            )
