"""A training that receives a signal to stop: its exit code, and its Slurm job put back in the queue."""

from __future__ import annotations

import os
import subprocess
import sys

from parrot.errors import UserError

STOPPED = 143  # the exit code of a process that a SIGTERM ended, by itself or not: 128 + 15


def requeue() -> None:
    """Put this process's Slurm job back in the queue, where there is one: called when a training ends on SIGTERM.

    Slurm does so itself after a pre-emption, but not at the end of a job's time. A job that was cancelled is not
    running any more at this point, and stays cancelled.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    try:
        if slurm_says("squeue", "--noheader", "--format=%T", f"--jobs={job}") == "RUNNING":
            print(f"putting Slurm job {job} back in the queue", file=sys.stderr, flush=True)
            slurm_says("scontrol", "requeue", job)
    except UserError as error:
        print(f"Slurm job {job} is not put back in the queue: {error}", file=sys.stderr, flush=True)


def slurm_says(*command: str) -> str:
    """Return what a Slurm command prints.

    Raises:
        UserError: the command fails or is not installed on this node.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        why = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error.strerror
        raise UserError(f"{' '.join(command)}: {why}; expected Slurm's answer on {os.uname().nodename}") from None
