"""Writing a backbone's folder as a whole, with a record of how it was made."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from parrot.digest import file_sha256
from parrot.files import write_json

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, which replaces it on success; on failure nothing changes."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sources(resources: Path, *names: str) -> dict[str, str]:
    """SHA-256 of the shipped files, relative to `resources`, that a backbone was made from."""
    return {name: file_sha256(resources / name) for name in sorted(names)}


def write_provenance(folder: Path, **record: Any) -> None:
    """Write provenance.json: what the caller says, the weights' digest, package versions and CPU seconds so far."""
    packages = {name: version(name) for name in _PACKAGES}
    digest = file_sha256(folder / "model.safetensors")
    write_json(
        folder / "provenance.json",
        {**record, "sha256": digest, "packages": packages, "cpu_seconds": round(time.process_time())},
    )
