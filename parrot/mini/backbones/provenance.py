"""The record of how a backbone was made."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from parrot.io.digests import file_sha256
from parrot.io.files import write_json

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow")


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
