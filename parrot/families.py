"""The catalogue of runs: names with overrides, families that are grids of them, and what each is compared with."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, NamedTuple

from parrot.config import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")
BASELINES = ("parrot",)  # what a target that names none is compared with


class Catalogue(NamedTuple):
    """Overrides by run, families' members among them; members by family; baselines by run and family."""

    overrides: dict[str, dict]
    families: dict[str, tuple[str, ...]]
    against: dict[str, tuple[str, ...]]


def expand(entries: dict[str, Any], where: str, reserved: Container[str]) -> Catalogue:
    """The catalogue that a file's `entries` are; members of a family have its baselines.

    ConfigError beginning with `where` for an entry that is malformed, or a name that is taken or `reserved`.
    """
    overrides = {name: entry or {} for name, entry in entries.items() if name != "families"}
    families: dict[str, tuple[str, ...]] = {}
    against: dict[str, tuple[str, ...]] = {}
    for family, grid in (entries.get("families") or {}).items():
        if not isinstance(grid, dict) or set(grid) - {"against"} != {"over", "values"}:
            raise ConfigError(f"{where}: families.{family}: expected the keys over, values and, if any, against")
        members = {f"{family}_{_label(value)}": _nested(grid["over"], value) for value in grid["values"]}
        taken = [name for name in members if name in overrides]
        if taken:
            raise ConfigError(f"{where}: {taken[0]} is both a run and a member of families.{family}")
        overrides |= members
        families[family] = tuple(members)
        against |= dict.fromkeys((family, *members), _against(grid, f"{where}: families.{family}"))
    for name in (*overrides, *families):
        if name in reserved:
            raise ConfigError(f"{where}: {name} is a reserved name")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{where}: {name!r}: a name is made of letters, digits, _ and .")
    for name, entry in overrides.items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{where}: {name}: expected a mapping of overrides, found {type(entry).__name__}")
        against.setdefault(name, _against(entry, f"{where}: {name}"))
    overrides = {name: {k: v for k, v in entry.items() if k != "against"} for name, entry in overrides.items()}
    return Catalogue(overrides, families, against)


def _against(entry: dict[str, Any], where: str) -> tuple[str, ...]:
    names = entry.get("against", BASELINES)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: against: expected a list of run names")
    return tuple(dict.fromkeys(names))


def _label(value: Any) -> str:
    return str(value[-1] if isinstance(value, list) else value)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value
