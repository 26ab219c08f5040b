"""Safetensors of a folder, single or sharded: checked by their headers before any tensor is read, then loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers.integrations import deepspeed
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, logging

from parrot.errors import UserError
from parrot.io.files import check_regular, read_object

ALIGNMENT = 64  # bytes
POINTER = b"version https://git-lfs"  # how the file begins that Git LFS leaves where it did not download
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


def check_file(path: Path) -> None:
    """Check that `path` is a file that can be read, and not the pointer that Git LFS leaves in place of one.

    Raises:
        UserError: it is not.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            start = file.read(len(POINTER))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if start == POINTER:
        raise UserError(f"{path}: expected the file itself, found a Git LFS pointer to it; run `git lfs pull`")


def headers_of(path: Path) -> dict[str, Header]:
    """Every tensor of one safetensors file by name.

    Raises:
        UserError: it cannot be read or has not all their bytes.
    """
    check_file(path)
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            return {name: Header(path, tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as error:
        why = str(error).rpartition("header: ")[2]
        raise UserError(
            f"{path}: the weights cannot be read: expected a header and the tensors that it lists, found "
            f"{path.stat().st_size:,} bytes: {why}"
        ) from None


def headers(folder: Path) -> dict[str, Header]:
    """Every tensor of `folder` by name.

    Raises:
        UserError: there are no safetensors, a file cannot be read, or the index and the shards disagree.
    """
    if os.path.lexists(folder / SAFE_WEIGHTS_NAME):
        return headers_of(folder / SAFE_WEIGHTS_NAME)
    if os.path.lexists(folder / SAFE_WEIGHTS_INDEX_NAME):
        return _of_shards(folder)
    if any(folder.glob("pytorch_model*.bin")):
        raise UserError(
            f"{folder}: no {SAFE_WEIGHTS_NAME}, and pytorch_model*.bin is a pickle and never opened; convert it there: "
            f"{CONVERT}"
        )
    raise UserError(f"{folder}: no {SAFE_WEIGHTS_NAME}; expected safetensors weights, single or sharded")


def _of_shards(folder: Path) -> dict[str, Header]:
    path = folder / SAFE_WEIGHTS_INDEX_NAME
    check_file(path)
    index = read_object(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise UserError(f"{path}: weight_map: expected the file of each tensor, found {index!r:.60}")
    for name, shard in index.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise UserError(f"{path}: {name}: expected the name of a file beside the index, found {shard!r}")
    found: dict[str, Header] = {}
    for shard in sorted(set(index.values())):
        if not os.path.lexists(folder / shard):
            raise UserError(f"{folder}: {shard}: named by {SAFE_WEIGHTS_INDEX_NAME}, but not there")
        for name, header in headers_of(folder / shard).items():
            if name in found:
                raise UserError(
                    f"{path}: {name}: expected it in one file, found it in {found[name].file.name}, {shard}"
                )
            found[name] = header
    for name in sorted(index.keys() | found.keys()):
        named, holding = index.get(name, "no file"), found[name].file.name if name in found else "no file"
        if named != holding:
            raise UserError(f"{path}: {name}: the index names {named}, but {holding} has it")
    return found


def check(
    folder: Path, found: Mapping[str, Header], expected: Mapping[str, Tensor], optional_tensors: Collection[str] = ()
) -> None:
    """Compare what `folder` has with what its config describes.

    `expected` gives shapes by name; `optional_tensors` are names that may be there and need not be.

    Raises:
        UserError: names the first tensor that is missing, wrongly shaped or unexpected.
    """
    for name, tensor in expected.items():
        shape, has = tuple(tensor.shape), found[name].shape if name in found else "nothing"
        if has != shape:
            raise UserError(f"{folder}: {name}: expected a tensor of shape {shape}, found {has}")
    for name, header in found.items():
        if name not in expected and name not in optional_tensors:
            raise UserError(f"{folder}: {name}: expected no such tensor, found one of shape {header.shape}")


def reader(found: Mapping[str, Header]) -> Callable[[str], Tensor]:
    """Return a function from a name of `found` to its tensor, with the bytes and the dtype that it has in the file."""
    opened = cache(lambda path: safe_open(path, "pt"))
    return lambda name: opened(found[name].file).get_tensor(name)


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Check that no tensor holds NaN or an infinity.

    Raises:
        UserError: one of `tensors` does; the line begins with `where` and names the first.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel():
            ends = torch.stack(torch.aminmax(tensor)).float()  # NaN where any is; takes no memory of the tensor's size
            if not ends.isfinite().all():
                found = ends[~ends.isfinite()][0].item()
                raise UserError(f"{where}: {name}: expected finite weights, found {found}")


@contextmanager
def unsharded() -> Iterator[None]:
    """Make a model without weights: transformers would split them over processes, where ZeRO-3 is on."""
    given = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = given


def pretrained(kind: Any, folder: str | Path, dtype: torch.dtype, **arguments: Any) -> Any:
    """Load a model of class `kind` from a folder that was checked.

    Raises:
        UserError: a weight is not finite.
    """
    be_quiet()
    model = kind.from_pretrained(folder, dtype=dtype, **arguments)
    # Where ZeRO-3 splits the weights, each process looks at its own part.
    check_finite({name: getattr(weight, "ds_tensor", weight) for name, weight in model.named_parameters()}, folder)
    return aligned(model)


def aligned(model: Any) -> Any:
    """`model`, its weights where torch's own allocator puts tensors: at multiples of 64 bytes.

    Weights that are read stay in the file's map, where its header and their neighbours put them, and some processors'
    kernels sum in an order that depends on that: equal weights in two files then give other last digits. Beside a GPU
    nothing is copied, since weights go there anyhow.
    """
    if not torch.cuda.is_available():
        for parameter in model.parameters():
            if parameter.device.type == "cpu" and parameter.data_ptr() % ALIGNMENT:
                parameter.data = parameter.data.clone()
    return model


def be_quiet() -> None:
    """No bar and no report of every load: they would hide the one line that a user may have to read."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
