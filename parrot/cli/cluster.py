"""Commands to run before a workflow: plan (its cost) and doctor (its prerequisites)."""

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
from parrot.config.suite import DEFAULT_CONFIG, Suite

commands = typer.Typer()


@commands.command()
def plan(
    targets: Annotated[list[str], typer.Argument(help="targets as for snakemake: runs, families, all, stage1")],
    configfile: ConfigFiles = None,
    profile: Annotated[
        str | None, typer.Option(help="Snakemake profile, e.g. slurm; sets the config file and the number of jobs")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU model, e.g. h100; overrides hardware.gpu_model")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="nodes per training; overrides hardware.nodes")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs per node; overrides hardware.gpus")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="concurrent jobs; default: the profile's, else 1")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
) -> None:
    """Estimate the remaining jobs, GPU-hours, wall-clock time, disk space and memory of targets."""
    listed = list_jobs(targets, profile, configfile or [])
    suite, facts = Suite.load((*DEFAULT_CONFIG, *listed.configfiles)), read_facts()
    on = planned_hardware(suite.config.hardware, facts, gpu, nodes, gpus, jobs or listed.at_a_time)
    gc.disable()  # collecting while torch is imported frees nothing and takes a second
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
        str | None, typer.Option(help="Snakemake profile of a Slurm cluster to check; default: check this machine only")
    ] = None,
    configfile: ConfigFiles = None,
    no_job: Annotated[bool, typer.Option("--no-job", help="skip the two checks that submit a job")] = False,
    wait: Annotated[int, typer.Option(help="seconds to wait for a free node for such a job", min=1)] = 60,
) -> None:
    """Check that runs can start; print one line per check and exit with code 1 if any failed."""
    from parrot.cluster.doctor.examine import examine

    found: Counter[str] = Counter()
    for finding in examine(profile, configfile or [], None if no_job else wait):
        print(finding, flush=True)
        found[finding.status] += 1
    if found["failed"]:
        raise typer.Exit(1)
    print(f"parrot: all is well: nothing failed, {found['warning']} of {found.total()} checks warned", file=sys.stderr)
