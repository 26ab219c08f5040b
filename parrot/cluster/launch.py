"""Start a training job's processes with torchrun, one per GPU, on every node of the job.

A job on one node starts torchrun directly. On several nodes the launcher first starts itself once per node with `srun`:
the step has the Slurm variables that torchrun's rendezvous needs and that Snakemake removes from the job.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NoReturn

from parrot.errors import INTERRUPTED, UserError
from parrot.train.preemption import STOPPED, requeue, slurm_says

# torchrun forwards a SIGTERM and kills remaining processes after 30 s. Slurm already limits the time for a checkpoint:
# it kills the job at the end of the grace period.
SHUTDOWN_SECONDS = 3600


def launch(command: Sequence[str], nodes: int, gpus: int, threads: int, device: Literal["cuda", "cpu"]) -> NoReturn:
    """Run `parrot` with the arguments `command` in one process per GPU, and exit with the processes' code.

    `gpus` and `threads` (CPU cores) are per node. Without GPUs there is one process and no torchrun. With `device` cpu
    as many CPU ranks, which communicate through gloo, take the place of the GPUs.

    Raises:
        UserError: other than `gpus` GPUs are visible; several nodes outside of a Slurm job or without GPUs.
    """
    if nodes > 1 and gpus == 0:
        raise UserError(f"hardware.gpus: {nodes} nodes need processes; expected at least 1 per node")
    if nodes > 1 and "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"hardware.nodes: {nodes} nodes need a Slurm job; expected 1 outside of one")
    if nodes > 1 and os.environ.get("SLURM_STEP_NUM_NODES") != str(nodes):
        # By default a step gets one core per task, however many the job has.
        layout = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
        again = [f"--nodes={nodes}", f"--gpus={gpus}", f"--threads={threads}", f"--device={device}", "--"]
        _become(["srun", "--kill-on-bad-exit=1", *layout, sys.executable, "-m", "parrot", "launch", *again, *command])
    if gpus == 0:
        _become([sys.executable, "-m", "parrot", *command])
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        check_gpus(gpus)
    os.environ["OMP_NUM_THREADS"] = str(max(1, threads // gpus))
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SHUTDOWN_SECONDS)
    rendezvous = _rendezvous() if nodes > 1 else ["--standalone"]
    # After "--" torchrun's parser does not read our options as abbreviations of its own.
    sys.exit(_torchrun([f"--nnodes={nodes}", f"--nproc-per-node={gpus}", *rendezvous, "-m", "--", "parrot", *command]))


def check_gpus(expected: int) -> None:
    """Check the number of GPUs that are visible to this process.

    Raises:
        UserError: it is not `expected`.
    """
    import torch

    visible = torch.cuda.device_count()
    if visible != expected:
        raise UserError(f"hardware.gpus: expected {expected} visible GPUs on {os.uname().nodename}, found {visible}")


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(command[0], command)


def _rendezvous() -> list[str]:
    """Return torchrun's rendezvous options: the step's first node, and a port that the job's id determines."""
    job, nodes = os.environ["SLURM_JOB_ID"], os.environ["SLURM_STEP_NODELIST"]
    first = slurm_says("scontrol", "show", "hostnames", nodes).split()[0]
    endpoint = f"{_address(first)}:{20000 + int(job) % 10000}"
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-id={job}", f"--rdzv-endpoint={endpoint}"]
    rendezvous += [f"--rdzv-conf=is_host={int(os.environ['SLURM_NODEID'] == '0')}"]
    return [*rendezvous, f"--local-addr={_address(os.environ['SLURMD_NODENAME'])}"]


def _address(node: str) -> str:
    """Return the address at which Slurm reaches a node, since its name need not resolve."""
    found = re.search(r"\bNodeAddr=(\S+)", slurm_says("scontrol", "show", "node", node))
    return found[1] if found else node


def _torchrun(arguments: list[str]) -> int:
    """Run torchrun and return its exit code; report the first failed process in one line."""
    import psutil
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError

    node = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
    try:
        run.run(run.parse_args(arguments))
    except SignalException as stopped:
        if stopped.sigval == signal.SIGTERM and os.environ.get("SLURM_NODEID", "0") == "0":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent again when the step ends on another node
            requeue()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()  # a second Ctrl-C did not wait for them
        return 128 + stopped.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode in (STOPPED, -signal.SIGTERM):
            return STOPPED
        if failure.exitcode == INTERRUPTED:
            return INTERRUPTED
        how = f"exit code {failure.exitcode}" if failure.exitcode > 0 else failure.signal_name()
        print(f"parrot: error: process {rank}, on {node}, ended with {how}; see its output above", file=sys.stderr)
        return 1
    except RendezvousError as error:
        print(f"parrot: error: {node} cannot connect to the job's other nodes: {error}", file=sys.stderr)
        return 1
    return 0
