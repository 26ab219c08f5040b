"""Start a training job's processes: one a GPU, by torchrun, on every node of the job.

A job on one node starts torchrun right away. On several nodes the launcher first starts itself once a node by `srun`;
inside that step Slurm's variables, which Snakemake takes from the job, are there to tell where the processes meet.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from typing import Literal, NoReturn

from parrot.strict import ConfigError


def launch(command: Sequence[str], nodes: int, gpus: int, device: Literal["cuda", "cpu"]) -> NoReturn:
    """Become the process, or the node's torchrun, that runs `parrot` with the arguments `command`.

    `gpus` are those of a node; with none there is one process and no torchrun. On `device` cpu as many processes on
    cores, which talk by gloo, stand in for them.

    Raises ConfigError where other than `gpus` GPUs are visible, or where several nodes are asked for outside of Slurm.
    """
    if nodes > 1 and "SLURM_JOB_ID" not in os.environ:
        raise ConfigError(f"hardware.nodes: {nodes} nodes need a Slurm job; expected 1 outside of one")
    if nodes > 1 and "SLURM_STEP_ID" not in os.environ:
        step = ["srun", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
        again = ["-m", "parrot", "launch", f"--nodes={nodes}", f"--gpus={gpus}", f"--device={device}", "--"]
        _become([*step, sys.executable, *again, *command])
    if gpus == 0:
        _become([sys.executable, "-m", "parrot", *command])
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        _check_gpus(gpus)
    where = _meeting_point() if nodes > 1 else ["--standalone"]
    processes = [f"--nnodes={nodes}", f"--nproc-per-node={gpus}", *where]
    # Behind "--" torchrun's parser does not take our options for abbreviations of its own.
    _become([sys.executable, "-m", "torch.distributed.run", *processes, "-m", "--", "parrot", *command])


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(command[0], command)


def _check_gpus(asked: int) -> None:
    import torch

    visible = torch.cuda.device_count()
    if visible != asked:
        raise ConfigError(f"hardware.gpus: expected {asked} visible GPUs on {os.uname().nodename}, found {visible}")


def _meeting_point() -> list[str]:
    """torchrun's rendezvous: a port of the job's first node that another job on it hardly takes."""
    job, names = os.environ["SLURM_JOB_ID"], os.environ["SLURM_JOB_NODELIST"]
    hosts = subprocess.run(["scontrol", "show", "hostnames", names], capture_output=True, text=True, check=True)
    port = 20000 + zlib.crc32(job.encode()) % 10000
    return ["--rdzv-backend=c10d", f"--rdzv-endpoint={hosts.stdout.split()[0]}:{port}", f"--rdzv-id={job}"]
