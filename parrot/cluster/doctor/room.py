"""Whether there is room on disk for what the plan says will be written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from parrot.cluster.doctor.command import ask
from parrot.cluster.doctor.finding import Finding, failed, ok, warning

PLAN_SECONDS = 180


def check_room(profile: str | None, configfiles: Sequence[str]) -> list[Finding]:
    """Free space against the plan of `all`, less what is done; quotas are not known."""
    named = ["--profile", profile] if profile else []
    files = [part for file in configfiles for part in ("--configfile", file)]
    # A process of its own, since counting a model's parameters takes torch.
    plan = ask(sys.executable, "-m", "parrot", "plan", "all", *named, *files, "--json", seconds=PLAN_SECONDS)
    if plan.code != 0:
        free = shutil.disk_usage(".").free
        found = f"{_size(free)} free at {Path.cwd()}; parrot plan does not say how much is needed: {plan.why}"
        return [warning("disk", found, "correct it, or see to it that there is room for data and checkpoints")]
    sizes = json.loads(plan.out)["disk"]
    others = sizes["total"] - sizes["data"] - sizes["models"]
    by_disk: dict[int, dict[Path, int]] = {}
    # Each of these folders may be a link to a file system of its own.
    for folder, size in {Path("data"): sizes["data"], Path("work"): others, Path("results"): sizes["models"]}.items():
        by_disk.setdefault(os.stat(_there(folder)).st_dev, {})[folder] = size
    return [_enough(list(needed), sum(needed.values())) for needed in by_disk.values()]


def _enough(folders: list[Path], needed: int) -> Finding:
    free = shutil.disk_usage(_there(folders[0])).free
    found = f"{', '.join(map(str, folders))}: {_size(needed)} still to be written, {_size(free)} free"
    if needed > free:
        return failed("disk", found, "make room, link a folder to a larger file system, or ask for fewer runs")
    return ok("disk", found)


def _there(folder: Path) -> Path:
    return folder if folder.exists() else Path.cwd()


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size < 1e12 else f"{size / 1e12:.1f} TB"
