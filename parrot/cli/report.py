"""Commands that show results: report and track."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parrot.cli.options import (
    ConfigFiles,
    Json,
    Output,
    RunName,
    load_suite,
    read_settings,
    stage_settings,
)
from parrot.config.catalog import Benchmark, Control, load_catalogue

report = typer.Typer(help="Show scores.", no_args_is_help=True)
track = typer.Typer(help="Import records into MLflow.", no_args_is_help=True)


@report.command("scores")
def report_scores(
    scores: Annotated[list[Path], typer.Argument(help="scores.csv files of runs")], output: Output
) -> None:
    """Lay scores.csv files one below the other."""
    from parrot.evaluate.score import join

    join(scores, output)


@report.command("build")
def report_build(
    scores: Annotated[list[Path], typer.Option(help="scores.csv files")],
    results: Annotated[Path, typer.Option(help="the scale's results folder")],
    output: Output,
    target: Annotated[str | None, typer.Option(help="a run or a family; default: the config's report")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write tables, figures and the page."""
    from parrot.report.build import build
    from parrot.report.settings import ReportStage, report_stage

    stage = (
        read_settings(ReportStage, settings) if settings is not None else report_stage(load_suite(configfile), target)
    )
    print(build(stage, scores, results, output))


@report.command("predictions")
def report_predictions(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    output: Annotated[Path, typer.Option(help="the page, an HTML file")],
    graded: Annotated[
        Path | None, typer.Option(help="the run's graded.csv; default: beside the folder of predictions")
    ] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write one page to browse a run's answers; it opens from the file."""
    from parrot.report.browse import write
    from parrot.report.settings import BrowseStage, browse_stage

    stage = stage_settings(BrowseStage, browse_stage, run, configfile, settings)
    write(stage, predictions, graded or predictions.parent / "graded.csv", output)


@report.command("router")
def report_router(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    control: Annotated[Control, typer.Option(help="what was asked: questions as they are, or a control")] = "none",
) -> None:
    """Print the router's entropy, and what its choice tells of language and question kind."""
    from parrot.report.router import text

    print(text(predictions, load_catalogue("config/benchmarks.yaml", Benchmark).values(), control))


@track.command("init")
def track_init() -> None:
    """Make the store where it is missing."""
    from parrot.tracking.importer import init_store

    init_store()


@track.command("import")
def track_import(
    results: Annotated[Path, typer.Option(help="the scale's results folder")],
    run: Annotated[list[str] | None, typer.Option(help="runs to import")] = None,
    report: Annotated[Path | None, typer.Option(help="folder of tables and figures that the runs get")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Import runs into MLflow; importing again changes nothing."""
    from parrot.tracking.identity import TrackedRun, tracked_run
    from parrot.tracking.importer import import_runs

    if settings is not None:
        runs = read_settings(tuple[TrackedRun, ...], settings)
    else:
        suite = load_suite(configfile)
        runs = [tracked_run(suite.run(name)) for name in run or suite.config.report.runs]
    if import_runs(runs, results, report):
        print(f"parrot: all is well: {', '.join(run.name for run in runs)} in MLflow")
