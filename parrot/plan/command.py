"""`parrot plan`: what targets take, before anything is submitted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from parrot.config import ConfigError, read_yaml
from parrot.plan.jobs import Job, Jobs
from parrot.runs import DEFAULT_CONFIG, Suite


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
    given = _profile(profile) if profile else Profile()
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or given.configfiles)))
    every = Jobs(suite, targets)
    from parrot.plan.against import aims, implied
    from parrot.plan.cost import Costs
    from parrot.plan.facts import read_facts
    from parrot.plan.fits import fits
    from parrot.plan.plan import as_dict, line, make, where
    from parrot.plan.text import text

    costs, facts = Costs(suite), read_facts()
    on = where(suite.config.hardware, facts, gpu, nodes, gpus, jobs or given.jobs)
    if scheduled is not None:
        assert on is not None, "without GPUs the line is Snakemake's own"
        print(line([Job(*job) for job in json.loads(scheduled.read_text())], costs, facts, on))
        return
    made = make(every, targets, costs, facts, on)
    extras: tuple[Any, ...] = ([], [], [])
    if on is not None:
        extras = (fits(every, costs, facts, on), implied(every, costs, facts), aims(every, costs, facts))
    print(json.dumps(as_dict(made, *extras), indent=1) if as_json else text(made, facts, *extras))


class Profile(NamedTuple):
    """What of a Snakemake profile changes a plan."""

    configfiles: tuple[str, ...] = ()
    jobs: int = 1


def _profile(name: str) -> Profile:
    """The profile in the folder `name`; ConfigError where there is none."""
    for file in (Path(name, "profile.yaml"), Path(name, "config.yaml"), Path(name)):
        if file.is_file():
            said = read_yaml(file)
            files = said.get("configfile", ())
            return Profile((files,) if isinstance(files, str) else tuple(files), int(said.get("jobs", 1)))
    raise ConfigError(f"{name}: no such profile; expected a folder with profile.yaml, as slurm is")
