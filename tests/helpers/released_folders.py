"""Copies of the golden released checkpoint, changed here and there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS = "model.safetensors"


def released_copy(golden: Path, folder: Path, **config: Any) -> Path:
    """The golden checkpoint in `folder`/checkpoint, its vision encoder's folder beside it; `config` changes keys."""
    shutil.copytree(golden / "model" / "checkpoint", folder / "checkpoint")
    tower = read(folder / "checkpoint" / "config.json")["mm_vision_tower"]
    shutil.copytree(golden / "model" / tower, folder / tower)
    change(folder / "checkpoint" / "config.json", **config)
    return folder / "checkpoint"


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(read(path) | values), encoding="utf-8")


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder of safetensors, single or sharded."""
    return {
        name: tensor for path in sorted(folder.glob("model*.safetensors")) for name, tensor in load_file(path).items()
    }


def save(folder: Path, state: dict[str, Tensor]) -> None:
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def shard(folder: Path, shards: int = 3) -> None:
    """Replace the single file by shards and their index, tensors dealt out in turn."""
    state = tensors(folder)
    (folder / WEIGHTS).unlink()
    index: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        names = sorted(state)[number::shards]
        save_file({name: state[name] for name in names}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(names, file)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def cut_to_three_experts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    gate = "model.moe_model.gate.weight"
    dropped = tuple(f"model.moe_model.experts.{index}." for index in range(3, 8))
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(dropped)}
    return kept | {gate: state[gate][:3]}
