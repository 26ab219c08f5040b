"""What made a model: code, settings, data, versions, machine and time."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from parrot.config.catalog import ConversationSet, ImageArchive, load_catalogue
from parrot.config.hardware import TrainingHardware
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.config.strict_yaml import read_yaml
from parrot.io.digests import file_sha256
from parrot.io.files import archive_or_self
from parrot.train.checkpoints import Program

PACKAGES = (
    "parrot", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy", "pillow",
    "pyarrow", "torchvision", "deepspeed", "flash-attn", "peft",
)  # fmt: skip


def describe(
    settings: AlignSettings | TuneSettings,
    hardware: TrainingHardware,
    model: Any,
    processor: Any,
    code: Sequence[Program],
) -> dict[str, Any]:
    """Return the facts that are known when a stage starts; paths are the settings' own.

    `code` lists the digests of the programs that train, the first from step 0; git's commit is that of the last.
    """
    return {
        **_git(),
        "code": list(code),
        "settings": settings.model_dump(mode="json"),
        "hardware": hardware.model_dump(mode="json"),
        "seed": settings.seed,
        "data_pins": data_pins(entry.file for entry in settings.data),
        "data_digests": data_digests(settings.data),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "attention": model.config.text_config._attn_implementation,
        "image_processor": type(processor.image_processor).__name__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],  # of one node
        "nodes": int(os.environ.get("GROUP_WORLD_SIZE", 1)),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "threads": torch.get_num_threads(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "slurm_nodes": os.environ.get("SLURM_JOB_NODELIST"),
    }


def gpu_uuids() -> list[str]:
    """Return the GPUs of this node that its processes train on, as NVML names them."""
    return [f"GPU-{torch.cuda.get_device_properties(index).uuid}" for index in range(torch.cuda.device_count())]


def peak_rss_mib() -> float:
    """Highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def data_pins(files: Iterable[str], root: Path = Path()) -> dict[str, str]:
    """DVC's md5 of each tracked path that holds one of `files`, by its pin's name: a `*.dvc` in root or root/data."""
    paths = [Path(os.path.abspath(root / file)) for file in files]
    pins: dict[str, str] = {}
    for pin in sorted([*root.glob("*.dvc"), *root.glob("data/*.dvc")]):
        if not pin.is_file():
            continue
        content = read_yaml(pin)
        base = pin.parent / content.get("wdir", ".")
        for out in content.get("outs", []):
            tracked = Path(os.path.abspath(base / out["path"]))
            if any(path.is_relative_to(tracked) for path in paths):
                pins[f"{pin.relative_to(root)}: {out['path']}"] = out["md5"]
    return pins


def data_digests(sets: Iterable[ConversationSet], catalogue: Path = Path("config/images.yaml")) -> dict[str, str]:
    """Return the digest of each file that sets are read from: of conversations, and of archives as catalogued.

    An archive was compared with the catalogue when it was downloaded, and each image has its CRC.
    """
    known: dict[str, ImageArchive] = load_catalogue(catalogue, ImageArchive) if catalogue.is_file() else {}
    published = {entry.file: entry.enforced("sha256") or entry.enforced("md5") for entry in known.values()}
    digests: dict[str, str] = {}
    for entry in sets:
        digests[entry.file] = file_sha256(entry.file)
        archives = map(archive_or_self, entry.image_places.values())
        digests |= {archive: digest for archive in archives if (digest := published.get(archive))}
    return digests


def _git() -> dict[str, Any]:
    if _run("git", "ls-files", "--error-unmatch", __file__) is None:
        return {"git_commit": None, "git_dirty": None}  # sources without git, perhaps inside of another repository
    commit = _run("git", "rev-parse", "HEAD")
    changes = _run("git", "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": None if changes is None else bool(changes)}


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
