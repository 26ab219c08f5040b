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
train = typer.Typer(help="Train stage 1 (align) or stage 2 (tune).", no_args_is_help=True)
commands.add_typer(train, name="train")


@commands.command()
def fetch(
    run: Annotated[
        list[str] | None, typer.Option(help="run whose data to fetch; repeat it for more; default: the report's runs")
    ] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
    check: Annotated[bool, typer.Option("--check", help="only check the data; write nothing")] = False,
    pin: Annotated[Path | None, typer.Option(help="DVC file whose checksums the data must match")] = None,
    write_pin: Annotated[
        Path | None, typer.Option(help="DVC file to write of complete data, e.g. data/paper.dvc for data/paper")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="JSON report to write; default without --check: results/{scale}/data.json"),
    ] = None,
) -> None:
    """Generate or download the data and models of runs, and check them."""
    from parrot.fetch import pin as pins
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
    archives = {name: entry for each in wanted for name, entry in each.archives.items()}
    tokenisations = tuple(dict.fromkeys(how for each in wanted for how in each.tokenisations))
    if pin is not None and not check:
        pins.pull(pin)
    stage(datasets, benchmarks, check, report, tokenisations, archives)
    if pin is not None:
        pins.confirm(pin, check)
    if write_pin is not None:
        pins.write(write_pin)
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
    """Train stage 1: the projector, on image captions."""
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
    """Train stage 2: projector, experts and language model, on instructions."""
    stage = stage_settings(TuneSettings, "tune", run, configfile, settings)
    parallelism = training_hardware("tune", hardware, micro_batch, run, configfile)
    from parrot.train.stages import tune

    tune(stage, projector, output, work, parallelism, tracked_as, fresh)


@commands.command(context_settings={"ignore_unknown_options": True})
def launch(
    command: Annotated[
        list[str], typer.Argument(help="parrot command of each process: `train align ...` or `train tune ...`")
    ],
    nodes: Annotated[int, typer.Option(help="number of nodes", min=1)] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs per node; 0: one process on the available device", min=0)] = 0,
    threads: Annotated[int, typer.Option(help="CPU cores per node", min=1)] = 1,
    device: Annotated[
        Literal["cuda", "cpu"], typer.Option(help="cpu: CPU ranks in place of GPUs, for testing the launcher")
    ] = "cuda",
) -> None:
    """Start a training with one process per GPU, on this node or on all nodes of a Slurm job."""
    from parrot.cluster.launch import launch as start

    start(command, nodes, gpus, threads, device)
