"""A training shown in MLflow while it goes on: every step once, whatever happens to server and training."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from parrot.config.hardware import TrainingHardware
from parrot.tracking.identity import training_id
from parrot.tracking.live import Live, follow, store_of_jobs
from parrot.tracking.store import connect
from parrot.tracking.training import read_training
from parrot.train.checkpoints import keep_metrics, restore_metrics
from parrot.train.live import live_tracking
from parrot.train.stages import align
from parrot.train.trainer import StageTrainer
from tests.helpers.tiny_server import Record, Server, curves, runs_of
from tests.helpers.tiny_training import align_settings, write_backbones, write_set

pytestmark = pytest.mark.slow

FAST = 0.01
BACKBONE = {"kind": "backbone", "path": "some/folder", "licence": "none", "source": "local"}
SETTINGS = {
    "vision_tower": BACKBONE,
    "language_model": BACKBONE,
    "projector": "mlp2x_gelu",
    "vision_feature_layer": -2,
    "vision_feature_select": "cls_patch",
    "experts": {"num_experts": 2},
    "data": [{"file": "sft_en.json", "language": "en"}],
    "recipe": {"learning_rate": 0.01},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


def one_line(*acts: Callable[[], str | None]) -> Callable[[float], str | None]:
    """In place of the process's input: one act before each sending; the last one's answer ends it."""
    waiting = iter(acts)
    return lambda seconds: next(waiting)()


def nothing() -> None:
    pass


def test_a_step_is_in_the_curve_once_a_checkpoint_holds_it_and_at_once_in_the_live_one(server: Server, tmp_path: Path):
    identity = "tiny/steps/seed0/tune"
    record = Record(tmp_path / "work")
    record.describe(slurm_job_id="17", slurm_nodes="gpu[1-2]", gpus=["H100", "H100"], nodes=2)
    live = Live(training_id(identity), record.folder, server.uri)
    record.grow(range(1, 4))
    live.send()
    record.grow(range(4, 8))
    record.save(5)
    live.send()
    record.grow([8])
    with open(record.folder / "metrics.jsonl", "a") as file:
        file.write('{"st\x00\n{"step": 9, "lo')  # damaged, and as a row looks while it is written
    live.send()
    runs = runs_of(server.store)
    run, tail, parent = (runs[name] for name in (identity, f"{identity}/live", "tiny/steps/seed0"))
    assert curves(server.store, run) == [point for point in record_of(record, 8) if point[1] <= 5]
    assert curves(server.store, tail) == record_of(record, 8)
    assert {each.info.status for each in (run, tail, parent)} == {"RUNNING"}
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert tail.data.tags["mlflow.parentRunId"] == run.info.run_id
    tags = {"slurm_job_id": "17", "slurm_nodes": "gpu[1-2]", "gpus": "H100,H100", "nodes": "2"}
    assert tags.items() <= run.data.tags.items()


def record_of(record: Record, steps: int) -> list[tuple[str, int, int, str]]:
    """The points of a record that grew one step a second from 1 on."""
    points = []
    for step in range(1, steps + 1):
        row = {"loss": 1 / step, "lr": 0.001, "grad_norm": 2.0, "samples": 8.0 * step}
        points += [(name, step, 1_700_000_000_250 + 1000 * step, repr(value)) for name, value in row.items()]
    return sorted(points)


def test_eight_trainings_at_once_lose_nothing(server: Server, tmp_path: Path):
    def training(number: int) -> Record:
        record = Record(tmp_path / f"work{number}")
        live = Live(training_id(f"tiny/many{number}/seed0/tune"), record.folder, server.uri)
        for first in (1, 31):
            record.grow(range(first, first + 30), loss=number + 1)
            record.save(first + 20)
            live.send()
        live.ended(record.finish(tmp_path / f"output{number}"))
        live.send()
        return record

    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(training, range(8)))
    runs = runs_of(server.store)
    for number, record in enumerate(records):
        run = runs[f"tiny/many{number}/seed0/tune"]
        assert curves(server.store, run) == record.curves()
        assert len(record.curves()) == 4 * 60
        assert run.info.status == "FINISHED"
        assert f"tiny/many{number}/seed0/tune/live" not in runs


def test_a_server_that_goes_away_and_comes_back_has_the_whole_curve(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    record = Record(tmp_path / "work")
    record.grow(range(1, 4))
    live = Live(training_id("tiny/away/seed0/tune"), record.folder, server.uri)
    follow(
        live,
        one_line(
            nothing,
            server.kill,
            lambda: record.grow(range(4, 7)),
            lambda: record.save(6),
            lambda: (record.grow([7]), server.start())[1],
            lambda: record.grow([8]),
            lambda: record.finish(tmp_path / "output"),
        ),
        FAST,
    )
    gone, back = capsys.readouterr().err.splitlines()
    assert gone.startswith(f"parrot: warning: MLflow at {server.uri} accepts nothing: ")
    assert back == f"parrot: MLflow at {server.uri} is back and has the complete record"
    run = runs_of(server.store)["tiny/away/seed0/tune"]
    assert curves(server.store, run) == record.curves()
    assert {point[1] for point in record.curves()} == set(range(1, 9))
    assert run.info.status == "FINISHED"


def test_a_killed_and_resumed_training_has_one_run_and_every_step_once(server: Server, tmp_path: Path):
    identity = "tiny/resumed/seed0/tune"
    record = Record(tmp_path / "work")
    record.describe(settings=SETTINGS, slurm_job_id="1")
    record.grow(range(1, 6))
    record.save(5)
    keep_metrics(record.folder / "checkpoint-5")
    record.grow([6, 7])
    first = Live(training_id(identity), record.folder, server.uri)
    first.send()
    first.ended("")  # the training was killed: its end of the pipe closed
    first.send()
    killed = runs_of(server.store)[identity]
    assert killed.info.status == "FAILED"
    assert len(curves(server.store, killed)) == 4 * 5

    restore_metrics(record.folder, record.folder / "checkpoint-5")
    record.describe(settings=SETTINGS, slurm_job_id="2")
    second = Live(training_id(identity), record.folder, server.uri)
    record.grow(range(6, 11), loss=1.5)
    second.send()
    runs = runs_of(server.store)
    assert runs[identity].info.run_id == killed.info.run_id
    assert runs[identity].info.status == "RUNNING"
    assert curves(server.store, runs[f"{identity}/live"]) == record.curves()
    second.ended(record.finish(tmp_path / "output"))
    second.send()
    resumed = runs_of(server.store)[identity]
    assert resumed.info.run_id == killed.info.run_id
    assert curves(server.store, resumed) == record.curves()
    assert resumed.data.params["tune.learning_rate"] == "0.01"
    assert resumed.data.tags["slurm_job_id"] == "2"


def test_a_training_that_is_killed_outright_is_told_apart_from_one_that_goes_on(server: Server, tmp_path: Path):
    record = Record(tmp_path / "work")
    record.grow(range(1, 5))
    record.save(3)
    identity, folders = "tiny/outright/seed0/tune", f"Path({str(record.folder)!r}), Path('output')"
    code = f"""
import os, signal
from pathlib import Path
from parrot.train.live import live_tracking
with live_tracking({identity!r}, {folders}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"MLFLOW_TRACKING_URI": server.uri}
    # The process that sends holds stderr open, so this waits until it has left too.
    done = subprocess.run([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    run = runs_of(server.store)[identity]
    assert run.info.status == "FAILED"
    assert {point[1] for point in curves(server.store, run)} == {1, 2, 3}


def test_an_import_completes_the_run_that_was_filled_live(server: Server, tmp_path: Path):
    identity = "tiny/align/0123456789ab"
    record = Record(tmp_path / "work")
    record.describe(stage="align")
    record.grow(range(1, 6))
    for node, watts in (("gpu1", 650.5), ("gpu2", 640.0)):
        row = {"step": 0, "gpu_0_power_usage_watts": watts, "time": 1.7e9}
        (record.folder / f"system-{node}.jsonl").write_text(json.dumps(row) + "\n")
    record.save(3)
    live = Live(training_id(identity), record.folder, server.uri)
    live.send()
    (record.folder / "metrics.jsonl").open("a").write('{"step": 6, "loss": NaN, "lr": Infinity, "time": 1.7e9}\n')
    before = runs_of(server.store)[identity]
    assert before.data.metrics["system/gpu1/gpu_0_power_usage_watts"] == 650.5
    assert before.data.metrics["system/gpu2/gpu_0_power_usage_watts"] == 640.0
    live.ended("stopped")
    live.send()
    assert runs_of(server.store)[identity].info.status == "KILLED"

    output = tmp_path / "output"
    record.finish(output)  # and the server was away when it ended
    store = connect(server.uri)
    histories = []
    for _ in range(2):
        store.put(read_training(training_id(identity), output))
        runs = runs_of(server.store)
        assert runs[identity].info.run_id == before.info.run_id
        assert runs[identity].info.status == "FINISHED"
        assert f"{identity}/live" not in runs
        histories.append((curves(server.store, runs[identity]), runs[identity].data.tags))
    assert histories[0] == histories[1]
    points = [point for point in histories[0][0] if not point[0].startswith("system/")]
    largest = repr(1.7976931348623157e308)
    assert points == [(*point[:3], largest if point[3] == "inf" else point[3]) for point in record.curves()]
    assert ("loss", 6, 1_700_000_000_000, "nan") in points


def test_a_training_that_starts_anew_takes_the_place_of_the_old(server: Server, tmp_path: Path):
    identity, runs = "tiny/anew/seed0/tune", []
    for attempt, loss in enumerate((1.0, 2.0)):
        record = Record(tmp_path / f"work{attempt}")
        record.grow(range(1, 4), loss)
        live = Live(training_id(identity), record.folder, server.uri)
        live.ended(record.finish(tmp_path / f"output{attempt}"))
        live.send()
        runs.append(runs_of(server.store)[identity])
        assert curves(server.store, runs[-1]) == record.curves()
    assert runs[0].info.run_id != runs[1].info.run_id


def test_a_server_that_is_never_there_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    record = Record(tmp_path / "work")
    record.grow(range(1, 4))
    # Port 9 (discard) is served nowhere.
    live = Live(training_id("tiny/never/seed0/tune"), record.folder, "http://127.0.0.1:9")
    follow(live, one_line(nothing, nothing, nothing, lambda: record.finish(tmp_path / "output")), FAST)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("parrot: warning: MLflow at http://127.0.0.1:9 accepts nothing: ")


def test_a_server_that_accepts_and_never_answers_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    record = Record(tmp_path / "work")
    monkeypatch.setattr("parrot.train.live.SECONDS_AFTER_END", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with live_tracking("tiny/hung/seed0/tune", record.folder, tmp_path / "output"):
            record.grow(range(1, 4))
            record.finish(tmp_path / "output")
    assert capsys.readouterr().err == (
        "parrot: warning: MLflow did not take everything within 0.2 s; `parrot track` imports the rest\n"
    )
    assert not [child for child in psutil.Process().children() if "parrot.tracking.live" in child.cmdline()]


def test_jobs_write_to_servers_and_to_local_stores_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store_of_jobs() is None
    (tmp_path / "mlflow.db").touch()
    assert store_of_jobs() == f"sqlite:///{tmp_path}/mlflow.db"
    mount = namedtuple("mount", ["mountpoint", "fstype"])
    with monkeypatch.context() as patch:
        patch.setattr(psutil, "disk_partitions", lambda all: [mount("/", "ext4"), mount(str(tmp_path), "nfs4")])
        assert store_of_jobs() is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"parrot: warning: {tmp_path}/mlflow.db is SQLite on nfs4")
    for uri, expected in (("http://login:5000", True), ("https://login", True), ("file:///tmp", False)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert (store_of_jobs() == uri) is expected


def test_a_training_that_crashes_is_continued_in_its_run(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setattr("parrot.train.live.SECONDS_AFTER_STOP", 120.0)
    monkeypatch.setattr("parrot.train.live.SECONDS_AFTER_END", 120.0)
    write_backbones(tmp_path)
    settings = align_settings(tmp_path, (write_set(tmp_path, "captions"),), max_steps=6, save_steps=2)
    training = settings, tmp_path / "output", tmp_path / "work", TrainingHardware(micro_batch=4), "tiny/align/crashed"
    step = StageTrainer.training_step

    def crashes(self: StageTrainer, *arguments: Any) -> Any:
        if self.state.global_step == 5:
            raise RuntimeError("power cut")
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "training_step", crashes)
        with pytest.raises(RuntimeError, match="power cut"):
            align(*training)
    crashed = runs_of(server.store)["tiny/align/crashed"]
    assert crashed.info.status == "FAILED"
    assert {point[1] for point in curves(server.store, crashed) if point[0] == "loss"} == {1, 2, 3, 4}
    align(*training)
    finished = runs_of(server.store)["tiny/align/crashed"]
    assert finished.info.run_id == crashed.info.run_id
    assert finished.info.status == "FINISHED"
    recorded = Record(tmp_path / "output").curves()
    assert {point[1] for point in recorded} == {1, 2, 3, 4, 5, 6}
    held = curves(server.store, finished)
    assert [point for point in held if not point[0].startswith("system/")] == recorded
    (system,) = (tmp_path / "output").glob("system-*.jsonl")
    name = f"system/{system.stem.removeprefix('system-')}/cpu_utilization_percentage"
    assert [point[1] for point in held if point[0] == name] == [0, 1]
    assert finished.data.params["align.learning_rate"] == "0.01"
    assert not list((tmp_path / "work/align").glob("*/"))
