"""Trainings that something happens to, and what is compared of them afterwards."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from parrot.train.trainer import StageTrainer


def metrics(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "time"} for row in rows]


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Call `act` in the middle of optimiser step `step`."""
    original = StageTrainer.training_step

    def training_step(self, *arguments):
        if self.state.global_step + 1 == step:
            act()
        return original(self, *arguments)

    monkeypatch.setattr(StageTrainer, "training_step", training_step)


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def assert_equal(resumed: Path, uninterrupted: Path, resumed_from: int) -> None:
    assert json.loads((resumed / "provenance.json").read_text())["resumed_from_step"] == resumed_from
    assert metrics(resumed) == metrics(uninterrupted)
    for file in ("model.safetensors", "config.json"):
        assert (resumed / "model" / file).read_bytes() == (uninterrupted / "model" / file).read_bytes()
