"""Images' features on disk: blocks of a vision encoder's output, found by the content of the image files."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from parrot.config.staleness import key
from parrot.errors import UserError
from parrot.io.archives import sha256_of, state_of
from parrot.io.digests import read_record, tell, write_record
from parrot.io.files import atomic_path

READERS = 8  # threads that read image files


class Place(NamedTuple):
    """Where an image's features are, and their checksum."""

    block: Path
    row: int
    crc32: int


class Features:
    """Features of the images that a job reads; `place` tells where each path's are."""

    def __init__(self, place: dict[str, Place], shape: tuple[int, int], dtype: torch.dtype):
        self._place = place
        self._none = torch.empty(0, *shape, dtype=dtype)

    def __call__(self, paths: Sequence[str]) -> Tensor:
        """(N, L, d_vision), in the order of `paths`; blocks are memory-mapped, so that only their rows are read.

        Raises:
            UserError: a row that is not as it was written; its block is removed.
        """
        return torch.stack([_read(self._place[path]) for path in paths]) if paths else self._none


def _read(place: Place) -> Tensor:
    try:
        with safe_open(place.block, "pt") as file:
            features = file.get_slice("features")[place.row]
    except (SafetensorError, FileNotFoundError):
        features = None
    if features is None or _crc32(features) != place.crc32:
        place.block.unlink(missing_ok=True)
        raise UserError(
            f"{place.block}: damaged, and removed; expected the features as they were written: start again, they are "
            "computed again, and training resumes from its latest checkpoint"
        )
    return features


def write_block(folder: Path, digests: Sequence[str], features: Tensor) -> None:
    """Keep `features` (n, L, d_vision) of images whose files have the SHA-256 `digests`; a block exists whole."""
    features = features.contiguous()
    images = {"images": json.dumps(list(digests)), "crc32": json.dumps(list(map(_crc32, features)))}
    with atomic_path(folder / f"{key(list(digests))}.safetensors") as partial:
        save_file({"features": features}, partial, metadata=images)


def stored(folder: Path) -> dict[str, Place]:
    """Return the place of every image in `folder`, by its file's SHA-256; remove blocks that were cut.

    Checksums of the features themselves are compared when they are read: a cache may hold terabytes.
    """
    place: dict[str, Place] = {}
    for block in sorted(folder.glob("[!.]*.safetensors")):
        try:
            place |= _places(block)
        except FileNotFoundError:
            continue  # removed by another process, for the same reason
        except (SafetensorError, ValueError, TypeError, LookupError):
            with suppress(FileNotFoundError):
                block.unlink()
                tell(block, "its features are computed again")
    return place


def _places(block: Path) -> dict[str, Place]:
    with safe_open(block, "pt") as file:
        metadata, count = file.metadata(), file.get_slice("features").get_shape()[0]
    images, checksums = json.loads(metadata["images"]), json.loads(metadata["crc32"])
    return {
        digest: Place(block, row, crc32) for row, digest, crc32 in zip(range(count), images, checksums, strict=True)
    }


def _crc32(features: Tensor) -> int:
    """Half a millisecond per image of CLIP ViT-L/14-336, where a SHA-256 would take two."""
    kind = f"{features.dtype} {list(features.shape)}".encode()
    return zlib.crc32(features.contiguous().flatten().view(torch.uint8).numpy().data, zlib.crc32(kind))


def digests_of(paths: Iterable[str], known: Path) -> dict[str, str]:
    """SHA-256 of each file; one whose size and time are as the file `known` says is not read again."""
    before = read_record(known, "all images are read again") or {}

    def digest(path: str) -> str:
        state = state_of(path)
        return before[path][1] if path in before and before[path][0] == state else sha256_of(path)

    paths = list(paths)
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(paths, pool.map(digest, paths), strict=True))


def remember(digests: dict[str, str], known: Path) -> None:
    """Write the file that `digests_of` reads."""
    before = read_record(known) or {}
    write_record(known, before | {path: [state_of(path), digest] for path, digest in digests.items()})
