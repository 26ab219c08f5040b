"""Checks of the local machine: Python, packages, cores, data and disk space."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from parrot.cluster.doctor.finding import Finding, failed, listed, ok, warning
from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import BackboneFolder, ConversationSet, Dataset
from parrot.config.hardware import Hardware
from parrot.config.runs import Run
from parrot.errors import UserError
from parrot.io.files import archive_or_self

INSTALL = "pip install -c constraints.txt -e ."


def check_python() -> Finding:
    """Check that the package supports this Python version."""
    wanted = importlib.metadata.metadata("parrot")["Requires-Python"]
    here = platform.python_version()
    # A build between two releases ends in a plus, which is not part of a version.
    if SpecifierSet(wanted).contains(here.rstrip("+"), prereleases=True):
        return ok("python", here)
    return failed("python", f"{here}, expected {wanted}", "rebuild the environment with that Python")


def check_threads(hardware: Hardware) -> Finding:
    """Check that a job's threads fit this machine's cores."""
    cores = len(os.sched_getaffinity(0))
    if hardware.threads > cores:
        found = f"a job takes {hardware.threads}, this machine has {cores} cores"
        return warning("threads", found, "lower hardware.threads, or run on Slurm")
    return ok("threads", f"a job takes {hardware.threads} of {cores} cores")


def check_packages() -> Finding:
    """Check that everything parrot needs is installed, in versions that were tested."""
    ranges, missing, others = _ranges(), [], []
    for name, versions in ranges.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if _release(found) not in versions:
            others.append(f"{name} {found} (expected {versions})")
    if missing:
        return failed("packages", f"missing: {listed(missing)}", INSTALL)
    if others:
        return warning("packages", f"in untested versions: {listed(others)}", INSTALL)
    return ok("packages", f"{len(ranges)} in tested versions")


def needed(hardware: Hardware) -> list[str]:
    """Return the modules that a training on this hardware imports."""
    stages = (hardware.align, hardware.tune)
    modules = ["torch", "transformers"]
    if any(stage.strategy in ("zero2", "zero3") for stage in stages):
        modules.append("deepspeed")
    if any(stage.attention == "flash_attention_2" for stage in stages):
        modules.append("flash_attn")
    return modules


def misfits(versions: Mapping[str, str]) -> list[str]:
    """Return the version ranges of the modules whose version is outside its range."""
    ranges = _ranges("gpu", "flash")
    wanted = {module: ranges[name] for module in versions if (name := module.replace("_", "-")) in ranges}
    return [f"{module} {expected}" for module, expected in wanted.items() if _release(versions[module]) not in expected]


def _ranges(*extras: str) -> dict[str, SpecifierSet]:
    """Return the versions that parrot itself and its `extras` accept, by package."""
    lines = [Requirement(line) for line in importlib.metadata.requires("parrot") or []]
    required = [
        line for line in lines if not line.marker or any(line.marker.evaluate({"extra": one}) for one in extras)
    ]
    return {line.name: line.specifier for line in required}


def _release(version: str) -> Version:
    """Return the version without its build, such as +cpu or +cu130."""
    return Version(Version(version).public)


def check_data(runs: Iterable[Run]) -> Finding:
    """Check which data of `runs` is here, which the rule `fetch` will generate or download, and which is missing."""
    named: dict[str, Dataset | Benchmark] = {}
    for run in runs:
        named |= {**run.fetch.datasets, **run.fetch.benchmarks}
    archives = {archive.place: archive.file for run in runs for archive in run.fetch.archives.values()}
    given: list[str] = []
    online: list[str] = []
    made: list[str] = []
    for name, entry in named.items():
        for path, source in _files(entry, archives):
            if not Path(path).exists():
                kind = {"composed": made, "local": given, "shipped": given, "unpublished": given}.get(source, online)
                kind.append(f"{path} ({name})")
    if given:
        return failed("data", f"missing: {listed(given)}", "put them there, or name others in the config")
    if online and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        found = f"to be downloaded: {listed(online)}, but HF_HUB_OFFLINE is set"
        return failed("data", found, "unset it; compute nodes never download, whatever its value")
    if online:
        advice = "get them with `parrot fetch`, on a machine with network: compute nodes never download"
        return warning("data", f"to be downloaded: {listed(online)}", advice)
    later = ", some of which the first run generates" if made else " are here"
    return ok("data", f"{len(named)} data sets, backbones and benchmarks{later}")


def _files(entry: Dataset | Benchmark, archives: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield an entry's required paths and the source of each; of images, only `archives`, by place, are downloaded."""
    source = entry.source if isinstance(entry.source, str) else "download"
    match entry:
        case ConversationSet():
            yield entry.file, source
            for place in entry.image_places.values():
                if place in archives:
                    yield archives[place], "download"
                else:
                    yield archive_or_self(place), source if source == "composed" else "local"
        case BackboneFolder():
            yield f"{entry.path}/config.json", source
        case Benchmark():
            yield from ((f"{entry.folder}/{file}", source) for file in entry.files.values())


def check_room(sizes: Mapping[str, int] | UserError) -> list[Finding]:
    """Compare free space with the bytes that are still to be written, by kind, or report why these are not known.

    Quotas are not considered.
    """
    if isinstance(sizes, UserError):
        free = shutil.disk_usage(".").free
        found = f"{_size(free)} free at {Path.cwd()}; how much is needed is not known: {sizes}"
        return [warning("disk", found, "correct it, or make sure that there is room for data and checkpoints")]
    others = sizes["total"] - sizes["data"] - sizes["models"]
    by_disk: dict[int, dict[Path, int]] = {}
    # Each of these folders may be a link to a file system of its own.
    for folder, size in {Path("data"): sizes["data"], Path("work"): others, Path("results"): sizes["models"]}.items():
        by_disk.setdefault(os.stat(_there(folder)).st_dev, {})[folder] = size
    return [_enough(list(each), sum(each.values())) for each in by_disk.values()]


def _enough(folders: list[Path], needed: int) -> Finding:
    free = shutil.disk_usage(_there(folders[0])).free
    found = f"{', '.join(map(str, folders))}: {_size(needed)} still to be written, {_size(free)} free"
    if needed > free:
        return failed("disk", found, "free space, link a folder to a larger file system, or request fewer runs")
    return ok("disk", found)


def _there(folder: Path) -> Path:
    return folder if folder.exists() else Path.cwd()


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size < 1e12 else f"{size / 1e12:.1f} TB"
