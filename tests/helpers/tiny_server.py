"""An MLflow server that is killed and started again on its port, and a training's record that grows by hand."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from parrot.io.files import write_json
from parrot.tracking.store import EXPERIMENT
from parrot.train.checkpoints import mark_complete

SECONDS_TO_START = 120


class Server:
    """`mlflow server` over an SQLite file in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.store = f"sqlite:///{folder}/mlflow.db"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store, "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artefacts"), "--port", str(self.port)]
        # Runs of its own jobs, which it starts seven processes for, are none of ours.
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = open(self.folder / "server.log", "a", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        log.close()
        give_up = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < give_up and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def runs_of(store: str) -> dict[str, MlflowRun]:
    """The store's runs by their id, each of which stands there once."""
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.data.tags["parrot.id"] for run in found}) == len(found)
    return {run.data.tags["parrot.id"]: run for run in found}


def curves(store: str, run: MlflowRun) -> list[tuple[str, int, int, str]]:
    """Every point of a run, sorted: name, step, milliseconds, value as text."""
    client = MlflowClient(store)
    found = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
    return sorted((point.key, point.step, point.timestamp, repr(point.value)) for point in found)


class Record:
    """What a training writes: four metrics a step, and checkpoints."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.clock = 1_700_000_000
        if not folder.exists():
            folder.mkdir()
            self.describe()

    def describe(self, **described: object) -> None:
        write_json(self.folder / "provenance.json", {"stage": "tune", "seed": 0, **described})

    def grow(self, steps: Iterable[int], loss: float = 1.0) -> None:
        with open(self.folder / "metrics.jsonl", "a") as file:
            for step in steps:
                self.clock += 1
                row = {"step": step, "loss": loss / step, "lr": 0.001, "grad_norm": 2.0, "samples": 8 * step}
                file.write(json.dumps(row | {"time": self.clock + 0.25}) + "\n")

    def save(self, step: int) -> None:
        (self.folder / f"checkpoint-{step}").mkdir()
        mark_complete(self.folder / f"checkpoint-{step}", "ddp", 1, {})

    def finish(self, output: Path) -> str:
        """Move what is recorded to the stage's output; the message that says so."""
        output.mkdir()
        for file in self.folder.glob("*.json*"):
            shutil.copy(file, output)
        shutil.rmtree(self.folder)
        self.folder = output
        return f"finished {output}"

    def curves(self) -> list[tuple[str, int, int, str]]:
        """What a store should hold of it, as `curves` tells it."""
        found = []
        for line in (self.folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            step, moment = row.pop("step"), round(1000 * row.pop("time"))
            found += [(name, step, moment, repr(float(value))) for name, value in row.items()]
        return sorted(found)
