"""Commands that present results: report and track."""

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
from parrot.config.benchmarks import Benchmark, Control
from parrot.config.catalog import load_catalogue

report = typer.Typer(help="Write tables, figures and pages of scores and predictions.", no_args_is_help=True)
track = typer.Typer(help="Set up the MLflow store and import runs into it.", no_args_is_help=True)


@report.command("scores")
def report_scores(
    scores: Annotated[list[Path], typer.Argument(help="scores.csv files of runs")], output: Output
) -> None:
    """Concatenate scores.csv files."""
    from parrot.evaluate.score import join

    join(scores, output)


@report.command("build")
def report_build(
    scores: Annotated[list[Path], typer.Option(help="scores.csv files")],
    results: Annotated[Path, typer.Option(help="results folder of the scale, e.g. results/mini")],
    output: Output,
    target: Annotated[str | None, typer.Option(help="run or family; default: the config's report")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write the tables, figures and HTML page of a report."""
    from parrot.report.build import build
    from parrot.report.settings import ReportStage, report_stage

    stage = (
        read_settings(ReportStage, settings) if settings is not None else report_stage(load_suite(configfile), target)
    )
    print(build(stage, scores, results, output))


@report.command("predictions")
def report_predictions(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    output: Annotated[Path, typer.Option(help="HTML file to write")],
    graded: Annotated[
        Path | None, typer.Option(help="the run's graded.csv; default: next to the predictions folder")
    ] = None,
    run: RunName = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Write an HTML page to browse a run's predictions; it needs no server."""
    from parrot.report.browse import write
    from parrot.report.settings import BrowseStage, browse_stage

    stage = stage_settings(BrowseStage, browse_stage, run, configfile, settings)
    write(stage, predictions, graded or predictions.parent / "graded.csv", output)


@report.command("router")
def report_router(
    predictions: Annotated[Path, typer.Argument(help="folder of a run's predictions")],
    control: Annotated[
        Control, typer.Option(help="control of the predictions; none: the unmodified questions")
    ] = "none",
) -> None:
    """Print the router's entropy and its mutual information with language and question kind."""
    from parrot.report.router import text

    print(text(predictions, load_catalogue("config/benchmarks.yaml", Benchmark).values(), control))


@track.command("init")
def track_init() -> None:
    """Create the MLflow store if it does not exist."""
    from parrot.tracking.importer import init_store

    init_store()


@track.command("import")
def track_import(
    results: Annotated[Path, typer.Option(help="results folder of the scale, e.g. results/mini")],
    run: Annotated[
        list[str] | None, typer.Option(help="run to import; repeat it for more; default: the report's runs")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="folder of tables and figures to attach to the runs")] = None,
    configfile: ConfigFiles = None,
    settings: Json = None,
) -> None:
    """Import runs into MLflow; importing twice changes nothing."""
    from parrot.tracking.identity import TrackedRun, tracked_run
    from parrot.tracking.importer import import_runs

    if settings is not None:
        runs = read_settings(tuple[TrackedRun, ...], settings)
    else:
        suite = load_suite(configfile)
        runs = [tracked_run(suite.run(name)) for name in run or suite.config.report.runs]
    if import_runs(runs, results, report):
        print(f"parrot: all is well: {', '.join(run.name for run in runs)} in MLflow")
