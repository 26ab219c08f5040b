"""Commands that fetch data and train: fetch, train align, train tune, launch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parrot.cli.options import (
    ConfigFiles,
    Fresh,
    HardwareFile,
    Json,
    MicroBatch,
    Output,
    RunName,
    TrackedAs,
    Work,
    load_suite,
    read_settings,
    stage_settings,
    training_hardware,
)
from parrot.config.stages import AlignSettings, FetchSettings, TuneSettings

commands = typer.Typer()
train = typer.Typer(help="Train a stage.", no_args_is_help=True)
commands.add_typer(train, name="train")


@commands.command()
def fetch(
    run: Annotated[list[str] | None, typer.Option(help="runs whose data is meant; default: the report's")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
    check: Annotated[bool, typer.Option("--check", help="check what is there; write nothing")] = False,
    pin: Annotated[Path | None, typer.Option(help="DVC file that the data must agree with")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="where findings go; default without --check: results/{scale}/data.json"),
    ] = None,
) -> None:
    """Make or download the data that runs name, and check it."""
    from parrot.fetch.fetch import fetch as stage

    if settings is not None:
        wanted = [read_settings(FetchSettings, settings)]
    else:
        suite = load_suite(configfile)
        wanted = [suite.run(name).fetch for name in run or suite.config.report.runs]
        if not check:
            report = report or Path(f"results/{suite.config.scale}/data.json")
    datasets = {name: entry for each in wanted for name, entry in each.datasets.items()}
    benchmarks = {name: entry for each in wanted for name, entry in each.benchmarks.items()}
    tokenisations = tuple(dict.fromkeys(how for each in wanted for how in each.tokenisations))
    stage(datasets, benchmarks, check=check, report=report, tokenisations=tokenisations)
    if pin is not None:
        from parrot.fetch.pin import confirm

        confirm(pin, check)
    pinned = f", as {pin} pins them" if pin is not None else ""
    print(f"parrot: all is well: {len(datasets)} data sets and models, {len(benchmarks)} benchmarks{pinned}")


@train.command("align")
def train_align(
    output: Output,
    work: Work,
    hardware: HardwareFile = None,
    micro_batch: MicroBatch = None,
    tracked_as: TrackedAs = None,
    fresh: Fresh = False,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Stage 1: the projector alone, on captions."""
    stage = stage_settings(AlignSettings, "align", run, configfile, settings)
    parallelism = training_hardware("align", hardware, micro_batch, run, configfile)
    from parrot.train.stages import align

    align(stage, output, work, parallelism, tracked_as, fresh)


@train.command("tune")
def train_tune(
    projector: Annotated[Path, typer.Option(help="stage 1's projector folder")],
    output: Output,
    work: Work,
    hardware: HardwareFile = None,
    micro_batch: MicroBatch = None,
    tracked_as: TrackedAs = None,
    fresh: Fresh = False,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Stage 2: projector, experts and language model, on instructions."""
    stage = stage_settings(TuneSettings, "tune", run, configfile, settings)
    parallelism = training_hardware("tune", hardware, micro_batch, run, configfile)
    from parrot.train.stages import tune

    tune(stage, projector, output, work, parallelism, tracked_as, fresh)


@commands.command(context_settings={"ignore_unknown_options": True})
def launch(
    command: Annotated[list[str], typer.Argument(help="what each process runs: `train align ...`, `train tune ...`")],
    nodes: Annotated[int, typer.Option(help="nodes of the job", min=1)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs of a node; 0: one process, on what there is", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="processor cores of a node", min=1)] = 1,
    device: Annotated[Literal["cuda", "cpu"], typer.Option(help="cpu: processes on cores in place of GPUs")] = "cuda",
) -> None:
    """Start a training's processes, one a GPU, on this node and, inside a Slurm job, on its others."""
    from parrot.cluster.launch import launch as start

    start(command, nodes, gpus, threads, device)
