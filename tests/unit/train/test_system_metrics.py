"""A node's counters: MLflow's names, means in a file that survives a killed job, and no training lost to them."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from parrot.train.system_metrics import sampled, sampler


class FakeNvml(SimpleNamespace):
    """Two GPUs, the second of which does not tell its power."""

    NVMLError = ValueError

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"GPU-{index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=20e9, total=80e9)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=97)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        if handle == "GPU-1":
            raise self.NVMLError("not supported")
        return 350_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 700_000


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr("mlflow.system_metrics.metrics.gpu_monitor.pynvml", fake, raising=False)


def rows(folder: Path) -> list[dict[str, float]]:
    (path,) = folder.glob("system-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_names_are_those_of_mlflows_own_collectors(nvml: None, tmp_path: Path) -> None:
    collected: dict[str, float] = {}
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor(), GPUMonitor()):
        monitor.collect_metrics()
        collected |= monitor.aggregate_metrics()
    assert sampler(tmp_path, ["GPU-0", "GPU-1"])().keys() == collected.keys()


def test_gpus_are_the_jobs_own(nvml: None, tmp_path: Path) -> None:
    sample = sampler(tmp_path, ["GPU-1"])()
    assert {name: value for name, value in sample.items() if name.startswith("gpu_")} == {
        "gpu_0_memory_usage_percentage": 25.0,
        "gpu_0_memory_usage_megabytes": 20_000.0,
        "gpu_0_utilization_percentage": 97.0,
    }
    assert sampler(tmp_path, ["GPU-0"])()["gpu_0_power_usage_percentage"] == 50.0


def test_without_the_package_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert not [name for name in sampler(tmp_path, ["GPU-0"])() if name.startswith("gpu_")]


def test_rows_go_on_after_those_of_a_killed_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu7")
    for _ in range(2):
        with sampled(tmp_path):
            pass
    with open(tmp_path / "system-gpu7.jsonl", "a") as file:
        file.write('{"step": 2, "cpu_utiliza')
    with sampled(tmp_path):
        pass
    assert [row["step"] for row in rows(tmp_path)] == [0, 1, 2]
    times = [row["time"] for row in rows(tmp_path)]
    assert times == sorted(times)
    assert all(0 < row["system_memory_usage_percentage"] < 100 for row in rows(tmp_path))


def test_a_damaged_row_is_left_out_and_steps_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu7")
    path = tmp_path / "system-gpu7.jsonl"
    path.write_bytes(b'{"step": 0}\n\xff{"step": 1}\n["step"]\n{"step": 3}\n')
    with sampled(tmp_path):
        pass
    assert [row["step"] for row in rows(tmp_path)] == [0, 3, 4]
    assert capsys.readouterr().err == f"parrot: warning: {path}: damaged; 2 of 4 rows are left out\n"


def test_a_row_is_the_mean_of_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, two_rows = itertools.count(10.0, 20.0), threading.Event()

    def sample() -> dict[str, float]:
        value = next(used)
        if value > 80:
            two_rows.set()
        return {"used": value}

    monkeypatch.setattr("parrot.train.system_metrics.SECONDS_PER_SAMPLE", 0.0)
    monkeypatch.setattr("parrot.train.system_metrics.sampler", lambda folder, gpus: sample)
    with sampled(tmp_path):
        assert two_rows.wait(60)
    assert [row["used"] for row in rows(tmp_path)][:2] == [20.0, 60.0]


def test_only_a_nodes_first_process_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with sampled(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_counter_that_fails_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURMD_NODENAME", "gpu7")

    def fails() -> None:
        raise psutil.AccessDenied(msg="no counters here")

    monkeypatch.setattr(psutil, "virtual_memory", fails)
    with sampled(tmp_path):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("parrot: warning: system-gpu7.jsonl: no more rows: ")
    assert "no counters here" in line
