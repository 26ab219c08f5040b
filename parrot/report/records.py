"""What runs leave beside their models: predictions, training curves and provenance, as the report reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from parrot.config import ConfigError, Language
from parrot.evaluate.predictions import read_predictions
from parrot.report.settings import ReportStage


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, in order; ConfigError for a line that is not a JSON object with a step."""
    records = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        try:
            record = json.loads(line)
            int(record["step"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: line {number}: expected a JSON object with a step") from None
        records.append(record)
    return records


def heldout_losses(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and held-out losses by language, from the ``eval_loss_{language}`` fields of a metrics.jsonl."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for record in read_metrics(path):
        for name, value in record.items():
            if name.startswith("eval_loss_"):
                steps, losses = curves.setdefault(name.removeprefix("eval_loss_"), ([], []))
                steps.append(int(record["step"]))
                losses.append(float(value))
    return curves


def mean_router_weights(
    settings: ReportStage, results: Path, run: str, benchmarks: tuple[str, ...]
) -> dict[Language, np.ndarray]:
    """Mean router weights (E,) by question language over the rows of `benchmarks`; {} for a run without experts."""
    found: dict[Language, list[list[float]]] = {}
    for benchmark in settings.benchmarks:
        if benchmark.name not in benchmarks:
            continue
        for language in benchmark.files:
            table = read_predictions(benchmark, language, results / run / "predictions", required=("router_weights",))
            found.setdefault(language, []).extend(json.loads(text) for text in table["router_weights"] if text)
    return {language: np.mean(weights, axis=0) for language, weights in found.items() if any(weights)}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
