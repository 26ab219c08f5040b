"""Checks that need a job: shared folders and imports on compute nodes. A full queue gives a warning."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parrot.cluster.doctor.finding import Finding, Outcome, execute, failed, listed, ok, warning
from parrot.cluster.doctor.machine import misfits, needed
from parrot.cluster.doctor.requests import Request
from parrot.config.hardware import Hardware

JOB_MINUTES = 5
SEEN = """
for path; do test -e "$path" || echo "$SLURMD_NODENAME: no $path"; done
test -w "${1%/*}" || echo "$SLURMD_NODENAME: no writing to ${1%/*}"
echo "$SLURMD_NODENAME: looked"
"""


def check_shared(request: Request, wait: int) -> Finding:
    """Check that the requested nodes have this folder, the folders linked into it, and the jobs' Python."""
    links = [str(path.absolute()) for path in map(Path, ("data", "results", "work")) if path.exists()]
    file, token = tempfile.mkstemp(prefix=".parrot-doctor-", dir=Path.cwd())
    try:
        os.close(file)
        outcome = _srun(request, ["--mem=200"], ["sh", "-c", SEEN, "sh", token, *links, sys.executable], wait)
    finally:
        Path(token).unlink(missing_ok=True)
    lines = outcome.out.splitlines()
    looked = sorted(line.removesuffix(": looked") for line in lines if line.endswith(": looked"))
    if outcome.code != 0 or not looked:
        return _not_run("shared", outcome, wait)
    # A missing token means that the folder is another one there.
    lacks = sorted(line.replace(token, f"{Path.cwd()} as it is here") for line in lines if ": no " in line)
    if lacks:
        advice = "keep the repository, its data and the environment on a file system that all nodes mount"
        return failed("shared", listed(lacks), advice)
    return ok("shared", f"{', '.join(looked)}: {Path.cwd()} and {sys.executable} are there")


def check_imports(request: Request, hardware: Hardware, wait: int) -> list[Finding]:
    """Check a training's imports, the GPUs that torch sees, and MLflow's server on the requested nodes."""
    gpus = request.gpus if hardware.device == "cuda" else 0
    gpu_options = request.gpu_options if gpus else []
    command = [sys.executable, "-m", "parrot.cluster.doctor.probe", *needed(hardware)]
    outcome = _srun(request, ["--mem=4000", *gpu_options], command, wait)
    reports = [json.loads(line) for line in outcome.out.splitlines() if line.startswith('{"host"')]
    if outcome.code != 0 or len(reports) < request.nodes:
        return [_not_run("imports", outcome, wait)]
    reports = sorted(reports, key=lambda each: str(each["host"]))
    servers = [(each["host"], Finding(**each["server"])) for each in reports if "server" in each]
    stores = [replace(finding, found=f"{host}: {finding.found}") for host, finding in servers]
    return [_imported(each, gpus) for each in reports] + stores


def check_imports_here(hardware: Hardware) -> Finding:
    """Check a training's imports and GPUs on this machine."""
    gpus = hardware.gpus if hardware.device == "cuda" else 0
    modules = needed(hardware)
    outcome = execute(sys.executable, "-m", "parrot.cluster.doctor.probe", *modules, seconds=60 * JOB_MINUTES)
    reports = [json.loads(line) for line in outcome.out.splitlines() if line.startswith('{"host"')]
    if not reports:
        return failed("imports", f"{', '.join(modules)}: {outcome.why}", "reinstall as in the README")
    return _imported(reports[0], gpus)


def _imported(report: dict, gpus: int) -> Finding:
    host, seen = report["host"], report["gpus"]
    broken = [f"{name}: {why}" for name, why in report["broken"].items()]
    if broken:
        advice = "install environment.yml or pip install -c constraints.txt -e '.[gpu]' in the jobs' environment"
        if list(report["broken"]) == ["flash_attn"]:
            advice = "pip install --no-build-isolation -c constraints.txt -e '.[gpu,flash]' in the jobs' environment"
        return failed("imports", f"{host}: {listed(broken)}", advice)
    if gpus and len(seen) != gpus:
        advice = "compare with nvidia-smi -L in such a job, and torch.version.cuda with the driver"
        return failed("imports", f"{host}: torch sees {len(seen)} GPUs, expected {gpus}", advice)
    others = misfits(report["versions"])
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    found = f"{host}: {versions}" + (f"; {len(seen)} x {seen[0]}" if seen else "")
    if others:
        return warning("imports", f"{found}; tested were {listed(others)}", "results may differ in their last digits")
    return ok("imports", found)


def _srun(request: Request, resources: Sequence[str], command: Sequence[str], wait: int) -> Outcome:
    """Run `command` once on each requested node, in the request's partition, on one core."""
    size = [f"--nodes={request.nodes}", f"--ntasks={request.nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
    limits = [f"--time={JOB_MINUTES}", f"--immediate={wait}", "--job-name=parrot-doctor"]
    # Inside a job these variables would turn the command into a step of it.
    free = {name: value for name, value in os.environ.items() if not re.match("SLURM_(?!CONF)", name)}
    seconds = wait + 60 * JOB_MINUTES
    return execute("srun", *size, *limits, *request.places, *resources, *command, seconds=seconds, environment=free)


def _not_run(check: str, outcome: Outcome, wait: int) -> Finding:
    if outcome.code is None or "nodes are busy" in outcome.err:
        found = f"not checked: no node became free and answered within {wait} s"
        return warning(check, found, "wait longer with --wait, or skip it with --no-job")
    lines = [line.removeprefix("srun: ").removeprefix("error: ") for line in outcome.err.splitlines()]
    # srun reports a failed task after the task's own output.
    errors = [line for line in lines if re.search("error|unable", line, re.IGNORECASE)] or lines or [outcome.why]
    return failed(check, f"srun: {errors[0]}", "run srun by hand")
