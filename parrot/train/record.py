"""Read the record of a training: provenance.json and metrics.jsonl. Free of torch, so that every command may."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from parrot.config.base import validate
from parrot.errors import UserError
from parrot.io.files import check_regular, read_object


class Provenance(BaseModel):
    """What readers need of a provenance.json, or may find there; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True)

    stage: Literal["align", "tune"]
    seed: int
    samples: int | None = None
    settings: dict[str, Any] | None = None
    git_commit: str | None = None
    data_pins: dict[str, str] | None = None
    data_digests: dict[str, str] | None = None
    packages: dict[str, str] | None = None
    wall_seconds: FiniteFloat | None = None
    peak_rss_mib: FiniteFloat | None = None


def read_provenance(path: Path, stage: Literal["align", "tune"], seed: int | None = None) -> dict[str, Any]:
    """Return the facts that a stage recorded.

    Raises:
        UserError: they are malformed, or another stage's or seed's.
    """
    try:
        found: Provenance = validate(Provenance, read_object(path), str(path))
    except UserError as error:
        raise UserError(f"{error}; {trained_again(path)}") from None
    for name, expected in (("stage", stage), ("seed", seed)):
        if expected is not None and getattr(found, name) != expected:
            said = f"expected {expected}, found {getattr(found, name)}"
            raise UserError(f"{path}: {name}: {said}; {trained_again(path)}")
    return found.model_dump()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a metrics.jsonl, in order.

    Raises:
        UserError: a line is no JSON object of numbers and a step.
    """
    check_regular(path)
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if rest:
        raise UserError(f"{path}: line {len(lines) + 1}: is cut off; {trained_again(path)}")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            numbers = all(type(value) in (int, float) for value in record.values())  # a loss may be NaN or infinite
            numbers = numbers and type(record["step"]) is int and math.isfinite(record.get("time", 0))
        except (ValueError, KeyError, AttributeError, OverflowError, RecursionError):
            numbers = False
        if not numbers:
            said = "expected a JSON object of numbers, with a step"
            raise UserError(f"{path}: line {number}: {said}; {trained_again(path)}")
        records.append(record)
    return records


def trained_again(path: Path) -> str:
    """How a training's record that cannot be believed is made anew."""
    return f"remove {path} and run again, which trains the stage again"


def training_loss(path: Path) -> tuple[list[int], list[float]]:
    """Return steps and training losses of a metrics.jsonl, every optimiser step."""
    records = [record for record in read_metrics(path) if "loss" in record]
    return [int(record["step"]) for record in records], [float(record["loss"]) for record in records]


def heldout_losses(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return steps and held-out losses by language, from the ``eval_loss_{language}`` fields of a metrics.jsonl."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for record in read_metrics(path):
        for name, value in record.items():
            if name.startswith("eval_loss_"):
                steps, losses = curves.setdefault(name.removeprefix("eval_loss_"), ([], []))
                steps.append(int(record["step"]))
                losses.append(float(value))
    return curves
