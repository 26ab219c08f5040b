"""Installed packages against the pins of pyproject.toml."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping

from parrot.doctor.finding import Finding, failed, listed, ok, warning
from parrot.hardware import Hardware

PIN = re.compile(r"([\w.-]+)==([^\s;]+)(; extra == \"(\w+)\")?")
INSTALL = "pip install -c constraints.txt -e ."


def check_packages() -> Finding:
    """Whether everything that parrot needs is installed, at its pin."""
    missing, others = [], []
    for name, version in _pins().items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if _release(found) != version:
            others.append(f"{name} {found} (pinned: {version})")
    if missing:
        return failed("packages", f"missing: {listed(missing)}", INSTALL)
    if others:
        return warning("packages", f"not as pinned: {listed(others)}", INSTALL)
    return ok("packages", f"{len(_pins())} as pinned")


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
    pins = _pins("gpu")
    wanted = {module: pins.get(module.replace("_", "-")) for module in versions}
    # Built from source, flash-attn leaves out what stands behind the third number.
    return [f"{name} {pin}" for name, pin in wanted.items() if pin and not pin.startswith(_release(versions[name]))]


def _pins(extra: str | None = None) -> dict[str, str]:
    """What parrot itself pins, and what its `extra` does."""
    lines = importlib.metadata.requires("parrot") or []
    matches = [match for line in lines if (match := PIN.fullmatch(line))]
    return {match[1]: match[2] for match in matches if match[4] in (None, extra)}


def _release(version: str) -> str:
    """The version without its build, such as +cpu or +cu130."""
    return version.partition("+")[0]
