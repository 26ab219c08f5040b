"""The checks that need a job: what compute nodes see and import. A queue that is full gives a warning."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parrot.cluster.doctor.finding import Answer, Finding, ask, failed, listed, ok, warning
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
    """Whether the nodes that `request` asks for see this folder, what is linked into it, and the Python of its jobs."""
    links = [str(path.absolute()) for path in map(Path, ("data", "results", "work")) if path.exists()]
    file, token = tempfile.mkstemp(prefix=".parrot-doctor-", dir=Path.cwd())
    try:
        os.close(file)
        answer = _srun(request, ["--mem=200"], ["sh", "-c", SEEN, "sh", token, *links, sys.executable], wait)
    finally:
        Path(token).unlink(missing_ok=True)
    said = answer.out.splitlines()
    looked = sorted(line.removesuffix(": looked") for line in said if line.endswith(": looked"))
    if answer.code != 0 or not looked:
        return _not_run("shared", answer, wait)
    # The token stands for the folder that it was in.
    lacks = sorted(line.replace(token, f"{Path.cwd()} as it is here") for line in said if ": no " in line)
    if lacks:
        advice = "keep the repository, its data and the environment on a file system that all nodes mount"
        return failed("shared", listed(lacks), advice)
    return ok("shared", f"{', '.join(looked)}: {Path.cwd()} and {sys.executable} are there")


def check_imports(request: Request, hardware: Hardware, wait: int) -> list[Finding]:
    """Whether a training's modules import on the nodes that `request` asks for, torch sees the GPUs, and MLflow's
    server answers there too."""
    gpus = request.gpus if hardware.device == "cuda" else 0
    asked = request.gpu_options if gpus else []
    command = [sys.executable, "-m", "parrot.cluster.doctor.probe", *needed(hardware)]
    answer = _srun(request, ["--mem=4000", *asked], command, wait)
    told = [json.loads(line) for line in answer.out.splitlines() if line.startswith('{"host"')]
    if answer.code != 0 or len(told) < request.nodes:
        return [_not_run("imports", answer, wait)]
    told = sorted(told, key=lambda each: str(each["host"]))
    servers = [(each["host"], Finding(**each["server"])) for each in told if "server" in each]
    answers = [replace(finding, found=f"{host}: {finding.found}") for host, finding in servers]
    return [_imported(each, gpus) for each in told] + answers


def check_imports_here(hardware: Hardware) -> Finding:
    """The same on this machine."""
    gpus = hardware.gpus if hardware.device == "cuda" else 0
    modules = needed(hardware)
    answer = ask(sys.executable, "-m", "parrot.cluster.doctor.probe", *modules, seconds=60 * JOB_MINUTES)
    told = [json.loads(line) for line in answer.out.splitlines() if line.startswith('{"host"')]
    if not told:
        return failed("imports", f"{', '.join(modules)}: {answer.why}", "install again, as the README says")
    return _imported(told[0], gpus)


def _imported(told: dict, gpus: int) -> Finding:
    host, seen = told["host"], told["gpus"]
    broken = [f"{name}: {why}" for name, why in told["broken"].items()]
    if broken:
        advice = "install environment.yml or pip install -c constraints.txt -e '.[gpu]' in the jobs' environment"
        if list(told["broken"]) == ["flash_attn"]:
            advice = "pip install --no-build-isolation -c constraints.txt -e '.[gpu,flash]' in the jobs' environment"
        return failed("imports", f"{host}: {listed(broken)}", advice)
    if gpus and len(seen) != gpus:
        advice = "compare with nvidia-smi -L in such a job, and torch.version.cuda with the driver"
        return failed("imports", f"{host}: torch sees {len(seen)} GPUs, expected {gpus}", advice)
    others = misfits(told["versions"])
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    found = f"{host}: {versions}" + (f"; {len(seen)} x {seen[0]}" if seen else "")
    if others:
        return warning("imports", f"{found}; tried were {listed(others)}", "results may differ in their last digits")
    return ok("imports", found)


def _srun(request: Request, asked: Sequence[str], command: Sequence[str], wait: int) -> Answer:
    """Run `command` once on every node that `request` asks for, in its partition, on one core."""
    size = [f"--nodes={request.nodes}", f"--ntasks={request.nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
    limits = [f"--time={JOB_MINUTES}", f"--immediate={wait}", "--job-name=parrot-doctor"]
    # Inside of a job these would make a step of it.
    free = {name: value for name, value in os.environ.items() if not re.match("SLURM_(?!CONF)", name)}
    seconds = wait + 60 * JOB_MINUTES
    return ask("srun", *size, *limits, *request.places, *asked, *command, seconds=seconds, environment=free)


def _not_run(check: str, answer: Answer, wait: int) -> Finding:
    if answer.code is None or "nodes are busy" in answer.err:
        found = f"not checked: no node came free and answered within {wait} s"
        return warning(check, found, "give it longer with --wait, or leave it out with --no-job")
    said = [line.removeprefix("srun: ").removeprefix("error: ") for line in answer.err.splitlines()]
    # That a task failed comes behind what it said itself.
    errors = [line for line in said if re.search("error|unable", line, re.IGNORECASE)] or said or [answer.why]
    return failed(check, f"srun: {errors[0]}", "try it by hand")
