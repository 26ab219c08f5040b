"""Compute the frozen encoder's features of all images of a stage once, before training, and keep them on disk.

A cache folder is named by all that features depend on: the encoder's weights, which of its states is taken,
preprocessing, number type and code. Whatever job needs the same finds them there; what is missing is computed by all
processes together, block by block, so that a job that was interrupted goes on with the rest.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import distributed
from torch.utils.data import DataLoader
from transformers import TrainingArguments

from parrot.config.staleness import code_digest, key
from parrot.data.feature_store import Features, digests_of, remember, stored, write_block
from parrot.data.images import open_image
from parrot.errors import UserError
from parrot.io.files import make_folder

BLOCK = 64  # images encoded at once and kept in one file: 72 MiB of CLIP ViT-L/14-336's features in bfloat16
PATIENCE = timedelta(days=7)  # processes wait for the slowest at the end only
GIB = 2**30


def prepare(model: Any, processor: Any, rows: Iterable[Dataset], args: TrainingArguments, work: Path) -> Features:
    """Features of every image in `rows`, in `args`' training precision.

    `work` holds the caches of all jobs. The model's vision encoder is left where `args` has its device.

    Raises:
        UserError: they do not fit on disk.
    """
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    where = _images(rows)
    group = distributed.new_group(backend="gloo", timeout=PATIENCE) if args.world_size > 1 else None
    digests = _digests(where, args, group, work / "images.json")
    folder = work / key(_identity(model, processor, dtype))
    make_folder(folder)
    there = stored(folder)
    missing = {digest: path for path, digest in sorted(digests.items()) if digest not in there}
    shape = (model.config.num_image_tokens, model.config.vision_config.hidden_size)
    if missing:
        _check_room(len(missing), shape, dtype, folder, args)
        if group is not None:
            distributed.barrier(group)  # nobody writes before everybody has looked
        blocks = _blocks(list(missing), BLOCK)[args.process_index :: args.world_size]
        _compute(model, processor, blocks, missing, where, dtype, folder, args)
        if group is not None:
            distributed.barrier(group)
        there = stored(folder)
    return Features({path: there[digest] for path, digest in digests.items()}, shape, dtype)


def _images(rows: Iterable[Dataset]) -> dict[str, str]:
    """Every image's path, and where it is named first."""
    where: dict[str, str] = {}
    for some in rows:
        columns = some.select_columns(["image", "source", "id"])[:]
        for image, source, name in zip(*columns.values(), strict=True):
            if image is not None:
                where.setdefault(image, f"{source}: sample {name}")
    return where


def _digests(where: dict[str, str], args: TrainingArguments, group: Any, known: Path) -> dict[str, str]:
    """Each file's SHA-256; every process reads its share."""
    try:
        digests = digests_of(list(where)[args.process_index :: args.world_size], known)
    except OSError as error:
        where_named = where.get(error.filename, "features")
        raise UserError(f"{where_named}: image: {error.filename} cannot be read: {error.strerror}") from None
    if group is not None:
        shares: list[Any] = [None] * args.world_size
        distributed.all_gather_object(shares, digests, group)
        digests = {path: digest for share in shares for path, digest in share.items()}
    if args.process_index == 0:
        remember(digests, known)
    return digests


def _identity(model: Any, processor: Any, dtype: torch.dtype) -> list[Any]:
    config, weights = model.config, hashlib.sha256()
    for name, tensor in sorted(model.model.vision_tower.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    taken = [config.vision_feature_layer, config.vision_feature_select, config.vision_config.to_diff_dict()]
    return [weights.hexdigest(), taken, processor.image_processor.to_dict(), str(dtype), code_digest("features")]


def _check_room(images: int, shape: Sequence[int], dtype: torch.dtype, folder: Path, args: TrainingArguments) -> None:
    needed = images * shape[0] * shape[1] * dtype.itemsize / GIB
    free = shutil.disk_usage(folder).free / GIB
    if needed > free:
        raise UserError(
            f"features: disk: those of {images} images take {needed:.1f} GiB in {folder}, where {free:.1f} GiB are "
            "free; expected compute, or a work folder with more room"
        )
    if args.process_index == 0:
        print(f"features of {images} images, {needed:.1f} GiB, are computed in {folder}", file=sys.stderr)


def _blocks(digests: list[str], size: int) -> list[list[str]]:
    return [digests[start : start + size] for start in range(0, len(digests), size)]


@torch.inference_mode()
def _compute(
    model: Any,
    processor: Any,
    blocks: list[list[str]],
    path: dict[str, str],
    where: dict[str, str],
    dtype: torch.dtype,
    folder: Path,
    args: TrainingArguments,
) -> None:
    """Encode and write `blocks` of images; `path` finds an image by its digest."""

    def decode(block: list[str]) -> tuple[list[str], torch.Tensor]:
        images = [open_image(path[digest], f"{where[path[digest]]}: image: {path[digest]}") for digest in block]
        return block, processor.image_processor(images, return_tensors="pt")["pixel_values"]

    model.model.vision_tower.to(args.device)
    loader: DataLoader[Any] = DataLoader(
        blocks,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=decode,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
    )
    for digests, pixels in loader:
        with torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
            features = model.encode_images(pixels.to(args.device, non_blocking=True))
        write_block(folder, digests, features.to("cpu", dtype))
