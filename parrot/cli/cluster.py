"""Commands that look ahead: plan, what targets take, and doctor, what would stop them."""

from __future__ import annotations

import gc
import json
import sys
from collections import Counter
from typing import Annotated, Any

import typer

from parrot.cli.options import ConfigFiles
from parrot.cluster.jobs import list_jobs
from parrot.cluster.plan.facts import planned_hardware, read_facts
from parrot.config.runs import DEFAULT_CONFIG, Suite

commands = typer.Typer()


@commands.command()
def plan(
    targets: Annotated[
        list[str], typer.Argument(help="runs, families, all, stage1: what snakemake would be asked for")
    ],
    configfile: ConfigFiles = None,
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile whose config file and number of jobs are taken, e.g. slurm")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="in place of hardware.gpu_model, e.g. h100")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="nodes of a training, in place of hardware.nodes")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs a node, in place of hardware.gpus")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="jobs at a time; default: the profile's, else 1")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print jobs, GPU-hours, wall-clock, disk and memory of targets, less what is done."""
    listed = list_jobs(targets, profile, configfile or [])
    suite, facts = Suite.load((*DEFAULT_CONFIG, *listed.configfiles)), read_facts()
    on = planned_hardware(suite.config.hardware, facts, gpu, nodes, gpus, jobs or listed.at_a_time)
    gc.disable()  # while torch is imported: nothing of it goes, and looking for what might takes a second
    from parrot.cluster.plan.cost import Costs
    from parrot.cluster.plan.goals import goal_utilisations, implied_utilisations
    from parrot.cluster.plan.memory import fits
    from parrot.cluster.plan.plan import as_dict, make
    from parrot.cluster.plan.text import text

    gc.enable()
    costs = Costs(suite)
    made = make(listed.jobs, targets, costs, facts, on)
    extras: tuple[Any, ...] = ([], [], [])
    if on is not None:
        every = (listed.jobs, costs, facts)
        extras = (fits(*every, on), implied_utilisations(*every), goal_utilisations(*every))
    print(json.dumps(as_dict(made, *extras), indent=1) if as_json else text(made, facts, *extras))


@commands.command()
def doctor(
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile whose cluster is checked too; default: this machine alone")
    ] = None,
    configfile: ConfigFiles = None,
    no_job: Annotated[bool, typer.Option("--no-job", help="leave out the two checks that need a job")] = False,
    wait: Annotated[int, typer.Option(help="seconds that a node may take to come free for such a job", min=1)] = 60,
) -> None:
    """Check what would stop a run before it starts; one line a check, exit code 1 if any failed."""
    from parrot.cluster.doctor.examine import examine

    found: Counter[str] = Counter()
    for finding in examine(profile, configfile or [], None if no_job else wait):
        print(finding, flush=True)
        found[finding.status] += 1
    if found["failed"]:
        raise typer.Exit(1)
    print(f"parrot: all is well: nothing failed, {found['warning']} of {found.total()} checks warned", file=sys.stderr)
