"""The catalogue of runs: names with overrides, and families that are grids of them."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from parrot.config import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")


def expand(
    entries: dict[str, Any], where: str, reserved: Container[str]
) -> tuple[dict[str, dict], dict[str, tuple[str, ...]]]:
    """Overrides by run name, families' members among them, and the members of each family.

    ConfigError beginning with `where` for an entry that is malformed, or a name that is taken or `reserved`.
    """
    overrides = {name: entry or {} for name, entry in entries.items() if name != "families"}
    families: dict[str, tuple[str, ...]] = {}
    for family, grid in (entries.get("families") or {}).items():
        if not isinstance(grid, dict) or set(grid) != {"over", "values"}:
            raise ConfigError(f"{where}: families.{family}: expected exactly the keys over and values")
        members = {f"{family}_{_label(value)}": _nested(grid["over"], value) for value in grid["values"]}
        taken = [name for name in members if name in overrides]
        if taken:
            raise ConfigError(f"{where}: {taken[0]} is both a run and a member of families.{family}")
        overrides |= members
        families[family] = tuple(members)
    for name in (*overrides, *families):
        if name in reserved:
            raise ConfigError(f"{where}: {name} is a reserved name")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{where}: {name!r}: a name is made of letters, digits, _ and .")
    for name, entry in overrides.items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: {name}: expected a mapping of overrides, found {type(entry).__name__}")
    return overrides, families


def _label(value: Any) -> str:
    return str(value[-1] if isinstance(value, list) else value)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value
