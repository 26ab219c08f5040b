"""The catalogue of runs: names with overrides, families that are grids of them, and what each is compared with."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, NamedTuple

from parrot.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.]{0,98}[A-Za-z0-9_])?")
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
    overrides = {name: {} if entry is None else entry for name, entry in entries.items() if name != "families"}
    families: dict[str, tuple[str, ...]] = {}
    against: dict[str, tuple[str, ...]] = {}
    grids = entries.get("families") or {}
    if not isinstance(grids, dict):
        raise ConfigError(f"{where}: families: expected a mapping of names, found {type(grids).__name__}")
    for family, grid in grids.items():
        if not isinstance(grid, dict) or set(grid) - {"against"} != {"over", "values"}:
            raise ConfigError(f"{where}: families.{family}: expected the keys over, values and, if any, against")
        members = _members(family, grid["over"], grid["values"], f"{where}: families.{family}")
        taken = [name for name in (family, *members) if name in overrides]
        if taken:
            raise ConfigError(f"{where}: {taken[0]} is both a run and a name of families.{family}")
        overrides |= members
        families[family] = tuple(members)
        against |= dict.fromkeys((family, *members), _against(grid, f"{where}: families.{family}"))
    names: dict[str, str] = {}  # as file systems see them that do not tell case
    for name in (*overrides, *families):
        if name.casefold() in reserved:
            raise ConfigError(f"{where}: {name} is a reserved name")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{where}: {name!r}: a name is made of letters, digits, _ and ., 100 at most, no last .")
        other = names.setdefault(name.casefold(), name)
        if other != name:
            raise ConfigError(f"{where}: {other} and {name}: expected names that differ by more than case")
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


def _members(family: str, over: Any, values: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(over, str) or not all(over.split(".")):
        raise ConfigError(f"{where}: over: expected a field such as model.num_experts, found {over!r}")
    if not isinstance(values, list) or not values or [] in values:
        raise ConfigError(f"{where}: values: expected a list of at least one value, found {values!r}")
    members: dict[str, dict[str, Any]] = {}
    for value in values:
        name = f"{family}_{_label(value)}"
        if name in members:
            raise ConfigError(f"{where}: values: two of them are called {name}; lists are named by their last entry")
        members[name] = _nested(over, value)
    return members


def _label(value: Any) -> str:
    return str(value[-1] if isinstance(value, list) else value)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value
