"""Pictures' features on disk: blocks of a vision encoder's output, found by the content of the picture files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from parrot.digest import file_sha256, key
from parrot.files import atomic_path, atomic_write

READERS = 8  # threads that read picture files


class Features:
    """Features of the pictures that a job reads; `place` tells each path's block and the row in it."""

    def __init__(self, place: dict[str, tuple[Path, int]], shape: tuple[int, int], dtype: torch.dtype):
        self._place = place
        self._none = torch.empty(0, *shape, dtype=dtype)

    def __call__(self, paths: Sequence[str]) -> Tensor:
        """(N, L, d_vision), in the order of `paths`; blocks are memory-mapped, so that only their rows are read."""
        return torch.stack([self._read(*self._place[path]) for path in paths]) if paths else self._none

    def _read(self, block: Path, row: int) -> Tensor:
        with safe_open(block, "pt") as file:
            return file.get_slice("features")[row]


def write_block(folder: Path, digests: Sequence[str], features: Tensor) -> None:
    """Keep `features` (n, L, d_vision) of pictures whose files have the SHA-256 `digests`; a block exists whole."""
    with atomic_path(folder / f"{key(list(digests))}.safetensors") as partial:
        save_file({"features": features.contiguous()}, partial, metadata={"pictures": json.dumps(list(digests))})


def stored(folder: Path) -> dict[str, tuple[Path, int]]:
    """Block and row of every picture in `folder`, by its file's SHA-256."""
    place: dict[str, tuple[Path, int]] = {}
    for block in sorted(folder.glob("[!.]*.safetensors")):
        with safe_open(block, "pt") as file:
            digests = json.loads(file.metadata()["pictures"])
        place |= {digest: (block, row) for row, digest in enumerate(digests)}
    return place


def digests_of(paths: Iterable[str], known: Path) -> dict[str, str]:
    """SHA-256 of each file; one whose size and time are as the file `known` says is not read again."""
    before = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}

    def digest(path: str) -> str:
        state = _state(path)
        return before[path][1] if path in before and before[path][0] == state else file_sha256(path)

    paths = list(paths)
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(paths, pool.map(digest, paths), strict=True))


def remember(digests: dict[str, str], known: Path) -> None:
    """Write the file that `digests_of` reads."""
    before = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    atomic_write(known, json.dumps(before | {path: [_state(path), digest] for path, digest in digests.items()}))


def _state(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]
