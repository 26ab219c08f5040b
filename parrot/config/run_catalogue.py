"""The catalogue of runs: names with overrides, families that are grids of them, and what each is compared with.

`expand` reads the entries. `check_overrides` and `check_layer` refuse overrides that nothing would read, and layers
that a run's vision encoder does not have.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from parrot.config.catalog import BackboneFolder, VisionShape
from parrot.config.settings import Config, ExpertSettings, ModelSettings
from parrot.errors import UserError
from parrot.io.files import read_json

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.]{0,98}[A-Za-z0-9_])?")
BASELINES = ("parrot",)  # what a target that names none is compared with
SCALE_KEYS = ("hardware", "scale", "report", "data_pin", "limits", "overlap")


class Catalogue(NamedTuple):
    """Overrides by run, families' members among them; members by family; baselines by run and family."""

    overrides: dict[str, dict]
    families: dict[str, tuple[str, ...]]
    against: dict[str, tuple[str, ...]]


def expand(entries: dict[str, Any], where: str, reserved: Container[str]) -> Catalogue:
    """Return the catalogue of a file's `entries`; members of a family have its baselines.

    Raises:
        UserError: an entry is malformed, or a name is taken or `reserved`; the line begins with `where`.
    """
    overrides = {name: {} if entry is None else entry for name, entry in entries.items() if name != "families"}
    families: dict[str, tuple[str, ...]] = {}
    against: dict[str, tuple[str, ...]] = {}
    grids = entries.get("families") or {}
    if not isinstance(grids, dict):
        raise UserError(f"{where}: families: expected a mapping of names, found {type(grids).__name__}")
    for family, grid in grids.items():
        if not isinstance(grid, dict) or set(grid) - {"against"} != {"over", "values"}:
            raise UserError(f"{where}: families.{family}: expected the keys over, values and, if any, against")
        members = _members(family, grid["over"], grid["values"], f"{where}: families.{family}")
        taken = [name for name in (family, *members) if name in overrides]
        if taken:
            raise UserError(f"{where}: {taken[0]} is both a run and a name of families.{family}")
        overrides |= members
        families[family] = tuple(members)
        against |= dict.fromkeys((family, *members), _against(grid, f"{where}: families.{family}"))
    names: dict[str, str] = {}  # as file systems see them that do not tell case
    for name in (*overrides, *families):
        if name.casefold() in reserved:
            raise UserError(f"{where}: {name} is a reserved name")
        if not NAME.fullmatch(name):
            raise UserError(f"{where}: {name!r}: a name is made of letters, digits, _ and ., 100 at most, no last .")
        other = names.setdefault(name.casefold(), name)
        if other != name:
            raise UserError(f"{where}: {other} and {name}: expected names that differ by more than case")
    for name, entry in overrides.items():
        if not isinstance(entry, dict):
            raise UserError(f"{where}: {name}: expected a mapping of overrides, found {type(entry).__name__}")
        against.setdefault(name, _against(entry, f"{where}: {name}"))
    overrides = {name: {k: v for k, v in entry.items() if k != "against"} for name, entry in overrides.items()}
    return Catalogue(overrides, families, against)


def _against(entry: dict[str, Any], where: str) -> tuple[str, ...]:
    names = entry.get("against", BASELINES)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}: against: expected a list of run names")
    return tuple(dict.fromkeys(names))


def _members(family: str, over: Any, values: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(over, str) or not all(over.split(".")):
        raise UserError(f"{where}: over: expected a field such as model.num_experts, found {over!r}")
    if not isinstance(values, list) or not values or [] in values:
        raise UserError(f"{where}: values: expected a list of at least one value, found {values!r}")
    members: dict[str, dict[str, Any]] = {}
    for value in values:
        name = f"{family}_{_label(value)}"
        if name in members:
            raise UserError(f"{where}: values: two of them are called {name}; lists are named by their last entry")
        members[name] = _nested(over, value)
    return members


def _label(value: Any) -> str:
    return str(value[-1] if isinstance(value, list) else value)


def _nested(dotted: str, value: Any) -> dict[str, Any]:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def check_overrides(overrides: dict[str, Any], config: Config, where: str) -> None:
    """Check that something reads all that the `overrides` of a run say.

    Raises:
        UserError: the run's `config` lets nothing read an override; the line begins with `where`.
    """
    for name in SCALE_KEYS:
        if name in overrides:
            raise UserError(f"{where}: {name}: expected in a config file, which all runs of a scale share")
    if config.tune.language_model != "lora" and "lora" in overrides.get("tune", {}):
        raise UserError(f"{where}: tune.lora: expected tune.language_model lora beside it")
    model = overrides.get("model", {})
    if config.model.hf is not None:
        unread = [name for name in overrides if name not in ("model", "evaluate")]
        unread += [f"model.{name}" for name in model if name not in ("hf", "revision")]
        if unread:
            raise UserError(f"{where}: {unread[0]}: expected none beside model.hf, which is evaluated as pretrained")
    for name, instead in _unread(config.model):
        if name in model:
            raise UserError(f"{where}: model.{name}: expected {instead} beside it")


def _unread(model: ModelSettings) -> Iterator[tuple[str, str]]:
    """Fields of `model` that nothing reads, and what would have to be said for them to be read."""
    if model.hf is None:
        yield "revision", "model.hf"
    if model.num_experts == 0:
        for name in ExpertSettings.model_fields:
            if name != "num_experts":
                yield name, "model.num_experts of 1 or more"
    if model.residual == "released":
        yield "alpha", "model.residual paper"
    else:
        yield "moe_weight", "model.residual released"
    if model.router not in ("text", "shuffled_text"):
        yield "router_text", "model.router text or shuffled_text"


def check_layer(layer: int, encoder: BackboneFolder, where: str) -> None:
    """Check that `encoder` has a hidden state `layer`; 0 is its embeddings, -1 its last.

    Its folder says how many layers it has, or the catalogue until that is fetched; without either all is allowed.

    Raises:
        UserError: there is no such hidden state; the line begins with `where`.
    """
    file = Path(encoder.path, "config.json")
    if file.is_file():
        said = read_json(file)
        said = said.get("vision_config", said) if isinstance(said, dict) else {}
        layers = said.get("num_hidden_layers") if isinstance(said, dict) else None
    else:
        layers = encoder.shape.num_hidden_layers if isinstance(encoder.shape, VisionShape) else None
    if isinstance(layers, int) and not -layers - 1 <= layer <= layers:
        expected = f"expected {-layers - 1} to {layers}, for the encoder's {layers} layers"
        raise UserError(f"{where}: {expected}, found {layer}")
