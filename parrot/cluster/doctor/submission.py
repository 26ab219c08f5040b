"""Whether Slurm itself would take the jobs: it knows limits of accounts and partitions that nothing else tells."""

from __future__ import annotations

import re
from collections.abc import Iterable

from parrot.cluster.doctor.command import ask
from parrot.cluster.doctor.finding import Finding, failed, ok
from parrot.cluster.doctor.profile import Request


def check_submission(asked: Iterable[Request]) -> list[Finding]:
    """One line for each of `asked` that Slurm refuses, else one that says when the last of them would start."""
    refused, starts = [], []
    for request in asked:
        answer = ask("sbatch", "--test-only", *_options(request), "--wrap=true")
        if answer.code != 0:
            advice = "correct the profile, or ask who runs the cluster"
            refused.append(failed("submission", f"{request.rule}: Slurm refuses it: {answer.why}", advice))
        starts += re.findall(r"to start at (\S+)", answer.err + answer.out)
    if refused or not starts:
        return refused
    return [ok("submission", f"Slurm takes each of these; the last would start at {max(starts)}")]


def _options(request: Request) -> list[str]:
    """What `request` asks for, with one task on each node."""
    size = [f"--nodes={request.nodes}", f"--ntasks={request.nodes}", "--ntasks-per-node=1"]
    time = [f"--time={request.minutes}"] if request.minutes else []
    cores = [f"--cpus-per-task={request.cpus}", f"--mem={request.memory}"]
    return [*size, *cores, *request.gpu_options, *time, *request.places]
