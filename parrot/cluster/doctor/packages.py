"""Installed packages against the pins of pyproject.toml."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from packaging.requirements import Requirement
from packaging.version import Version

from parrot.cluster.doctor.finding import Finding, failed, listed, ok, warning
from parrot.config.hardware import Hardware

INSTALL = "pip install -c constraints.txt -e ."


def check_packages() -> Finding:
    """Whether everything that parrot needs is installed, at its pin."""
    pins, missing, others = _pins(), [], []
    for name, pin in pins.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if _release(found) != pin:
            others.append(f"{name} {found} (pinned: {pin})")
    if missing:
        return failed("packages", f"missing: {listed(missing)}", INSTALL)
    if others:
        return warning("packages", f"not as pinned: {listed(others)}", INSTALL)
    return ok("packages", f"{len(pins)} as pinned")


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
    """Those of the modules' versions that are not their pins, as what is pinned."""
    pins = _pins("gpu", "flash")
    wanted = {module: pins[name] for module in versions if (name := module.replace("_", "-")) in pins}
    # Built from source, flash-attn leaves out what stands behind the third number.
    return [
        f"{module} {pin}"
        for module, pin in wanted.items()
        if _release(versions[module]) not in (pin, Version(pin.base_version))
    ]


def _pins(*extras: str) -> dict[str, Version]:
    """What parrot itself pins, and what its `extras` do."""
    lines = [Requirement(line) for line in importlib.metadata.requires("parrot") or []]
    asked = [line for line in lines if not line.marker or any(line.marker.evaluate({"extra": one}) for one in extras)]
    return {line.name: Version(pin.version) for line in asked for pin in line.specifier}


def _release(version: str) -> Version:
    """The version without its build, such as +cpu or +cu130."""
    return Version(Version(version).public)
