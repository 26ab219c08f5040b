"""Checkpoints of a stage: a mark, written last, tells a whole one from one that was cut off while it was written."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from parrot.config import ConfigError
from parrot.files import atomic_write, write_json

WHOLE = "whole"
RESHARDED = ("ddp", "fsdp2")  # strategies whose checkpoints any number of processes can load
_NAME = re.compile(r"checkpoint-(\d+)")


def flush(checkpoint: Path) -> None:
    """Have this machine's writes below `checkpoint` on the disk, so that the mark never outlives what it stands for."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def mark_whole(checkpoint: Path, strategy: str, processes: int) -> None:
    """State that everything in the folder `checkpoint` is written, and how it is spread."""
    write_json(checkpoint / WHOLE, {"strategy": strategy, "processes": processes})


def check_spread(checkpoint: Path, strategy: str, processes: int) -> None:
    """ConfigError where `processes` processes cannot load `checkpoint` under `strategy`."""
    saved = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
    if saved["strategy"] != strategy or (saved["processes"] != processes and strategy not in RESHARDED):
        raise ConfigError(
            f"{checkpoint}: was saved by {saved['processes']} processes with strategy {saved['strategy']}, found "
            f"{processes} with {strategy}; expected the same, or this folder removed to start anew"
        )


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint of the highest step in `folder` that is whole; none where there is not any."""
    whole = [path for path in _checkpoints(folder) if (path / WHOLE).is_file()]
    return max(whole, key=step_of, default=None)


def remove_broken(folder: Path) -> None:
    """Delete the checkpoints that were cut off, so that retention never counts them."""
    for path in _checkpoints(folder):
        if not (path / WHOLE).is_file():
            shutil.rmtree(path)


def step_of(checkpoint: Path) -> int:
    """Optimiser steps done when the checkpoint was taken."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match, checkpoint
    return int(match[1])


def cut_back(metrics: Path, step: int) -> None:
    """Drop the rows of `metrics` that come after optimiser step `step`, a half-written last row included."""
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.is_file() else []
    rows = (line for line in lines if line.endswith("\n"))
    atomic_write(metrics, "".join(line for line in rows if json.loads(line)["step"] <= step))


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()]
