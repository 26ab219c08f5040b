"""A real Slurm cluster on this machine: two nodes with two "GPUs" each (device files that exist everywhere).

`python tests/slurm/cluster.py start` and `stop`, as root, with Debian's slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

NODES = ("gpu1", "gpu2")
IDLE = ["idle", "idle"]
CONFIG = Path("/etc/slurm")  # the one place: Snakemake's plugin takes a SLURM_CONF that leads elsewhere from its jobs
STATE = Path("/var/lib/parrot-slurm")
MARK = "# Written by Parrot's tests/slurm/cluster.py, which removes it when the cluster stops.\n"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")

# A requeued job waits until the credentials of its first start have expired, hence their short life. Nodes claim the
# memory that the paper's scale asks for, and cores for one training at a time. `urgent` pre-empts `gpu`, whose jobs are
# told by SIGTERM and requeued after the grace time.
SLURM_CONF = """
ClusterName=parrot
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=20
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=5,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
GresTypes=gpu
ReturnToService=1
SlurmdParameters=config_overrides
StateSaveLocation={state}/slurmctld
SlurmctldPidFile={state}/slurmctld.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdPidFile={state}/slurmd.%n.pid
SlurmdSpoolDir={state}/slurmd.%n
SlurmdLogFile={state}/slurmd.%n.log
NodeName=gpu[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=2 RealMemory=1000000 Gres=gpu:2
PartitionName=gpu Nodes=gpu[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=gpu[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
GRES_CONF = """
NodeName=gpu[1-2] Name=gpu File=/dev/null Count=1
NodeName=gpu[1-2] Name=gpu File=/dev/zero Count=1
"""


def unavailable() -> str | None:
    """Why no cluster can be started here; None where one can."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"Slurm is not installed: no {', '.join(missing)}"
    if os.geteuid() != 0:
        return "a Slurm cluster is started by root alone"
    file = CONFIG / "slurm.conf"
    if file.exists() and MARK not in file.read_text(encoding="utf-8"):
        return f"{file}: this machine belongs to a Slurm cluster of its own"
    return None


def running() -> bool:
    return (CONFIG / "slurm.conf").exists() and _answers("scontrol", "ping")


def start() -> None:
    """Start the daemons, and wait until both nodes take jobs."""
    CONFIG.mkdir(exist_ok=True)
    for name, text in (("slurm.conf", SLURM_CONF), ("gres.conf", GRES_CONF)):
        (CONFIG / name).write_text(MARK + text.format(host=socket.gethostname(), state=STATE), encoding="utf-8")
    shutil.rmtree(STATE, ignore_errors=True)
    for folder in (STATE / "slurmctld", Path("/run/munge")):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.chown("/run/munge", "munge")
    if not _answers("munge", "--no-input"):
        subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", f"exec {shutil.which('munged')}"], check=True)
    subprocess.run(["slurmctld"], check=True)
    for node in NODES:
        subprocess.run(["slurmd", "-N", node], check=True)
    _wait_for("idle nodes", lambda: _words("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%t") == IDLE)


def stop() -> None:
    """Cancel all jobs and end the daemons by their own process ids; munge stays."""
    if running():
        for partition in ("gpu", "urgent"):
            subprocess.run(["scancel", f"--partition={partition}"], check=True)
        _wait_for("an empty queue", lambda: not _words("squeue", "--noheader"))
    for file in STATE.glob("*.pid"):
        _end(int(file.read_text()))
    for name in ("slurm.conf", "gres.conf"):
        (CONFIG / name).unlink(missing_ok=True)
    shutil.rmtree(STATE, ignore_errors=True)


def _end(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return
    _wait_for(f"the end of process {process}", lambda: not Path(f"/proc/{process}").exists())


def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True).returncode == 0


def _words(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


def _wait_for(what: str, condition: Callable[[], object], seconds: int = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}; Slurm's logs are in {STATE}")
        time.sleep(0.5)


if __name__ == "__main__":
    if reason := unavailable():
        sys.exit(reason)
    {"start": start, "stop": stop}[sys.argv[1]]()
