"""`parrot plan`: what targets take, before anything is submitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from parrot.cluster.plan.facts import read_facts
from parrot.cluster.plan.jobs import Job, Jobs
from parrot.cluster.plan.where import where
from parrot.config.runs import DEFAULT_CONFIG, Suite
from parrot.config.strict_yaml import read_yaml


def plan(
    targets: Annotated[list[str], typer.Argument(help="runs, families, all, align: what snakemake would be asked for")],
    configfile: Annotated[
        list[str] | None, typer.Option(help="config files laid over config/config.yaml, in order")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile whose config file and number of jobs are taken, e.g. slurm")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="in place of hardware.gpu_model, e.g. h100")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="nodes of a training, in place of hardware.nodes")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs a node, in place of hardware.gpus")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="jobs at a time; default: the profile's, else 1")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    scheduled: Annotated[
        Path | None, typer.Option(hidden=True, help="JSON list of (rule, wildcard): print one line of just these jobs")
    ] = None,
) -> None:
    """Print jobs, GPU-hours, wall-clock, disk and memory of targets, less what is done."""
    files, at_a_time = _of_profile(profile) if profile else ([], 1)
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or files)))
    every, facts = Jobs(suite, targets), read_facts()
    on = where(suite.config.hardware, facts, gpu, nodes, gpus, jobs or at_a_time)
    from parrot.cluster.plan.against import aims, implied
    from parrot.cluster.plan.cost import Costs
    from parrot.cluster.plan.fits import fits
    from parrot.cluster.plan.plan import as_dict, line, make
    from parrot.cluster.plan.text import text

    costs = Costs(suite)
    if scheduled is not None:
        assert on is not None, "without GPUs the line is Snakemake's own"
        print(line(every, [Job(*job) for job in json.loads(scheduled.read_text())], costs, facts, on))
        return
    made = make(every, targets, costs, facts, on)
    extras: tuple[Any, ...] = ([], [], [])
    if on is not None:
        extras = (fits(every, costs, facts, on), implied(every, costs, facts), aims(every, costs, facts))
    print(json.dumps(as_dict(made, *extras), indent=1) if as_json else text(made, facts, *extras))


def _of_profile(name: str) -> tuple[list[str], int]:
    """The config files and the number of jobs at a time of a Snakemake profile; ConfigError where there is none."""
    from parrot.cluster.doctor.profile import files_of, find_profile

    said = read_yaml(find_profile(name))
    return files_of(said), int(said.get("jobs", 1))
