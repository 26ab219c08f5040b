"""Samples a node while it trains: processor, memory, disk, network and GPUs, under the names of MLflow's collectors.

MLflow's own collectors bring all of mlflow into the process: seconds and 150 MiB in every training job. They read
psutil and NVML; so does this.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from parrot.io.digests import tell
from parrot.io.files import atomic_write, complete_lines, parse_rows

SECONDS_PER_SAMPLE, SAMPLES_PER_ROW = 5.0, 2
MEGA = 1e6

Sample = dict[str, float]


@contextmanager
def sampled(folder: Path, gpus: Sequence[str] = ()) -> Iterator[None]:
    """Append a row of means to ``system-{node}.jsonl`` in `folder` every ten seconds; local rank 0 of a node does.

    `gpus` are the UUIDs, as NVML knows them, of the GPUs that the node's processes train on.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) != 0:
        yield
        return
    stop = threading.Event()
    path = folder / f"system-{node()}.jsonl"
    thread = threading.Thread(target=_record, args=(path, gpus, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        # A sample takes milliseconds, except from a file system or a driver that hangs.
        thread.join(timeout=5)


def node() -> str:
    """Return the name that Slurm gives this node, else the host's."""
    return os.environ.get("SLURMD_NODENAME") or platform.node().split(".")[0]


def _record(path: Path, gpus: Sequence[str], stop: threading.Event) -> None:
    try:
        step = _next_step(path)
        sample = sampler(path.parent, gpus)
        ended = False
        while not ended:
            samples: list[Sample] = []
            while len(samples) < SAMPLES_PER_ROW and not ended:
                ended = stop.wait(SECONDS_PER_SAMPLE)
                samples.append(sample())
            row = {"step": step, **_mean(samples), "time": time.time()}
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            step += 1
    # A full disk or a counter that cannot be read does not end a training; a line reports missing rows.
    except (OSError, psutil.Error) as error:
        print(f"parrot: warning: {path.name}: no more rows: {error}", file=sys.stderr)


def _next_step(path: Path) -> int:
    """Return the step after those that an earlier job left; drop unfinished and damaged rows."""
    if not path.is_file():
        return 0
    lines = complete_lines(path.read_bytes())
    left = parse_rows(lines)
    if len(left) < len(lines):
        tell(path, f"{len(lines) - len(left)} of {len(lines)} rows are left out")
    atomic_write(path, "".join(f"{json.dumps(row)}\n" for row in left))
    return 1 + max((row["step"] for row in left), default=-1)


def sampler(folder: Path, gpus: Sequence[str]) -> Callable[[], Sample]:
    """Make a function that reads all counters; its disk is the one of `folder`, its traffic counts from here on."""
    start = psutil.net_io_counters()
    psutil.cpu_percent()  # Its first answer means nothing: it tells of the time since the last question.
    handles = _handles(gpus)

    def sample() -> Sample:
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(str(folder)), psutil.net_io_counters()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGA,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / MEGA,
            "disk_available_megabytes": disk.free / MEGA,
            "network_receive_megabytes": (network.bytes_recv - start.bytes_recv) / MEGA,
            "network_transmit_megabytes": (network.bytes_sent - start.bytes_sent) / MEGA,
        }
        for number, handle in enumerate(handles):
            found |= {f"gpu_{number}_{name}": value for name, value in _gpu(handle).items()}
        return found

    return sample


def _handles(gpus: Sequence[str]) -> list[Any]:
    """NVML's handles; none without the package nvidia-ml-py or its driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in gpus]
    except pynvml.NVMLError:
        return []


def _gpu(handle: Any) -> Sample:
    """Return what NVML tells of one GPU; leave out a reading that the GPU does not have."""
    import pynvml

    found = {}
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        found["memory_usage_percentage"] = 100 * memory.used / memory.total
        found["memory_usage_megabytes"] = memory.used / MEGA
        found["utilization_percentage"] = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        milliwatts = pynvml.nvmlDeviceGetPowerUsage(handle)
        found["power_usage_watts"] = milliwatts / 1000
        found["power_usage_percentage"] = 100 * milliwatts / pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)
    except pynvml.NVMLError:
        pass
    return found


def _mean(samples: Sequence[Sample]) -> Sample:
    names = dict.fromkeys(name for sample in samples for name in sample)
    means = {}
    for name in names:
        values = [sample[name] for sample in samples if name in sample]
        means[name] = round(sum(values) / len(values), 1)
    return means
