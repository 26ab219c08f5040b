"""Installed packages against the ranges of pyproject.toml."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from parrot.cluster.doctor.finding import Finding, failed, listed, ok, warning
from parrot.config.hardware import Hardware

INSTALL = "pip install -c constraints.txt -e ."


def check_packages() -> Finding:
    """Check that everything parrot needs is installed, in versions that were run."""
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
        return warning("packages", f"in versions that were not tried: {listed(others)}", INSTALL)
    return ok("packages", f"{len(ranges)} in versions that were tried")


def needed(hardware: Hardware) -> list[str]:
    """Modules that a training of this hardware imports."""
    stages = (hardware.align, hardware.tune)
    modules = ["torch", "transformers"]
    if any(stage.strategy in ("zero2", "zero3") for stage in stages):
        modules.append("deepspeed")
    if any(stage.attention == "flash_attention_2" for stage in stages):
        modules.append("flash_attn")
    return modules


def misfits(versions: Mapping[str, str]) -> list[str]:
    """Return the ranges of those modules whose version is outside."""
    ranges = _ranges("gpu", "flash")
    wanted = {module: ranges[name] for module in versions if (name := module.replace("_", "-")) in ranges}
    return [f"{module} {expected}" for module, expected in wanted.items() if _release(versions[module]) not in expected]


def _ranges(*extras: str) -> dict[str, SpecifierSet]:
    """Return the versions that parrot itself and its `extras` accept, by package."""
    lines = [Requirement(line) for line in importlib.metadata.requires("parrot") or []]
    asked = [line for line in lines if not line.marker or any(line.marker.evaluate({"extra": one}) for one in extras)]
    return {line.name: line.specifier for line in asked}


def _release(version: str) -> Version:
    """Return the version without its build, such as +cpu or +cu130."""
    return Version(Version(version).public)
