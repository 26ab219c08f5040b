"""The machine that the doctor runs on: its Python and its cores."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re

from parrot.doctor.finding import Finding, failed, ok, warning
from parrot.hardware import Hardware


def check_python() -> Finding:
    """Whether this Python is one that the package asks for."""
    wanted = importlib.metadata.metadata("parrot")["Requires-Python"]
    # An order of versions, lowest first, whatever the order in which the bounds are written.
    lowest, highest = sorted(tuple(map(int, bound.split("."))) for bound in re.findall(r"[\d.]+", wanted))
    here = platform.python_version()
    if lowest <= tuple(map(int, here.split(".")[:2])) < highest:
        return ok("python", here)
    return failed("python", f"{here}, expected {wanted}", "make the environment anew with that Python")


def check_threads(hardware: Hardware) -> Finding:
    """Whether a job's threads fit this machine's cores."""
    cores = len(os.sched_getaffinity(0))
    if hardware.threads > cores:
        found = f"a job takes {hardware.threads}, this machine has {cores} cores"
        return warning("threads", found, "lower hardware.threads, or run on Slurm")
    return ok("threads", f"a job takes {hardware.threads} of {cores} cores")
