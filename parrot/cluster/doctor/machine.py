"""The machine that the doctor runs on: its Python and its cores."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from packaging.specifiers import SpecifierSet

from parrot.cluster.doctor.finding import Finding, failed, ok, warning
from parrot.config.hardware import Hardware


def check_python() -> Finding:
    """Whether this Python is one that the package asks for."""
    wanted = importlib.metadata.metadata("parrot")["Requires-Python"]
    here = platform.python_version()
    # A build from between two releases ends in a plus, which is no part of a version.
    if SpecifierSet(wanted).contains(here.rstrip("+"), prereleases=True):
        return ok("python", here)
    return failed("python", f"{here}, expected {wanted}", "make the environment anew with that Python")


def check_threads(hardware: Hardware) -> Finding:
    """Whether a job's threads fit this machine's cores."""
    cores = len(os.sched_getaffinity(0))
    if hardware.threads > cores:
        found = f"a job takes {hardware.threads}, this machine has {cores} cores"
        return warning("threads", found, "lower hardware.threads, or run on Slurm")
    return ok("threads", f"a job takes {hardware.threads} of {cores} cores")
