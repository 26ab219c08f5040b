"""Safetensors of a folder, single or sharded: checked by their headers before any tensor is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from parrot.config import ConfigError
from parrot.files import read_object

CONVERT = (
    'python -c "import glob, torch, safetensors.torch as s; s.save_file({k: v.clone() for f in '
    "glob.glob('pytorch_model*.bin') for k, v in torch.load(f, weights_only=True).items()}, "
    "'model.safetensors', {'format': 'pt'})\""
)


class Header(NamedTuple):
    """Where a tensor is, and what it is, before it is read."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def headers_of(path: Path) -> dict[str, Header]:
    """Every tensor of one safetensors file by name; ConfigError when it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            return {name: Header(path, tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: the weights cannot be read: {error}") from None


def headers(folder: Path) -> dict[str, Header]:
    """Every tensor of `folder` by name.

    Raises:
        ConfigError: there are no safetensors, a file cannot be read, or the index and the shards disagree.
    """
    if (folder / SAFE_WEIGHTS_NAME).is_file():
        return headers_of(folder / SAFE_WEIGHTS_NAME)
    if (folder / SAFE_WEIGHTS_INDEX_NAME).is_file():
        return _of_shards(folder, read_object(folder / SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}))
    if any(folder.glob("pytorch_model*.bin")):
        raise ConfigError(f"{folder}: pytorch_model*.bin is a pickle and never opened; convert it there: {CONVERT}")
    raise ConfigError(f"{folder}: no {SAFE_WEIGHTS_NAME}; expected safetensors weights, single or sharded")


def _of_shards(folder: Path, index: Mapping[str, str]) -> dict[str, Header]:
    found: dict[str, Header] = {}
    for shard in sorted(set(index.values())):
        if not (folder / shard).is_file():
            raise ConfigError(f"{folder}: {shard}: named by {SAFE_WEIGHTS_INDEX_NAME}, but not there")
        found |= headers_of(folder / shard)
    for name in sorted(index.keys() | found.keys()):
        named, holding = index.get(name, "no file"), found[name].file.name if name in found else "no file"
        if named != holding:
            raise ConfigError(
                f"{folder / SAFE_WEIGHTS_INDEX_NAME}: {name}: the index names {named}, but {holding} has it"
            )
    return found


def check(
    folder: Path, found: Mapping[str, Header], expected: Mapping[str, Tensor], spare: Collection[str] = ()
) -> None:
    """Compare what `folder` has with what its config describes.

    `expected` gives shapes by name; `spare` are names that may be there and need not be.

    Raises:
        ConfigError: names the first tensor that is missing, wrongly shaped or unexpected.
    """
    for name, tensor in expected.items():
        shape, has = tuple(tensor.shape), found[name].shape if name in found else "nothing"
        if has != shape:
            raise ConfigError(f"{folder}: {name}: expected a tensor of shape {shape}, found {has}")
    for name, header in found.items():
        if name not in expected and name not in spare:
            raise ConfigError(f"{folder}: {name}: expected no such tensor, found one of shape {header.shape}")


def reader(found: Mapping[str, Header]) -> Callable[[str], Tensor]:
    """A function from a name of `found` to its tensor, with the bytes and the dtype that it has in the file."""
    opened = cache(lambda path: safe_open(path, "pt"))
    return lambda name: opened(found[name].file).get_tensor(name)
