"""`parrot runs`, `compare` and `overlap`: a scale's runs, finished ones side by side, and what they were trained on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from parrot.cli.options import ConfigFiles, Output, load_suite
from parrot.cluster.workflow_start import check_inputs
from parrot.config.runs import UnpublishedError
from parrot.config.suite import DEFAULT_CONFIG, Suite
from parrot.errors import UserError
from parrot.report.settings import comparison_stage, report_stage


def runs(
    configfile: ConfigFiles = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="print only the runs and families that cannot run at this scale; exit with code 1 if any"
        ),
    ] = False,
) -> None:
    """List runs and families with their baselines, and those that cannot run at this scale with the reason."""
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or ())))
    report_stage(suite)
    found = {name: misfit(suite, name) for name in (*suite.overrides, *suite.families)}
    unpublished = [name for name, error in suite.misfits.items() if isinstance(error, UnpublishedError)]
    faults = dict.fromkeys(fault for name, fault in found.items() if fault and name not in unpublished)
    if not check:
        width = max(map(len, found))
        for name, fault in found.items():
            print(f"{name:{width}}  {fault or _described(suite, name)}")
    elif faults:
        print(*(f"parrot: error: {fault}" for fault in faults), sep="\n", file=sys.stderr)
        raise typer.Exit(1)
    else:
        print(
            f"parrot: all is well: {len(suite.overrides)} runs and {len(suite.families)} families "
            f"fit scale {suite.config.scale}"
            + (f"; left out, as their data is not published: {', '.join(unpublished)}" if unpublished else "")
        )


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="runs or families; the first is compared with the others, by default its baselines"),
    ],
    configfile: Annotated[
        list[str] | None, typer.Option(help="config files merged over config/config.yaml, in order")
    ] = None,
) -> None:
    """Print accuracies and differences, with intervals and p, of runs that are done; nothing is trained."""
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or ())))
    first, *rest = runs
    members = suite.target(first)
    others = [name for target in rest for name in suite.target(target)] if rest else suite.against(first)
    baselines = [name for name in dict.fromkeys(others) if name not in members]
    if not baselines:
        itself = f"; {', '.join(rest)} is the same" if rest else ", since it has no baseline"
        raise UserError(f"expected a run to compare {first} with{itself}")
    results = Path("results", suite.config.scale)
    files = ("scores.csv", "graded.csv")
    missing = [name for name in (*members, *baselines) if not all((results / name / file).is_file() for file in files)]
    if missing:
        over = f" --configfile {' '.join(configfile)} --" if configfile else ""
        made_by = f"snakemake --cores 2{over} {' '.join(missing)}"
        raise UserError(f"{', '.join(missing)}: no {' and '.join(files)} in {results}; `{made_by}` makes them")
    from parrot.report.contrast import side_by_side

    print(side_by_side(comparison_stage(suite, first, members, baselines), results))


def overlap(
    run: Annotated[str, typer.Argument(help="name of a run in config/runs.yaml")],
    output: Output,
    configfile: ConfigFiles = None,
) -> None:
    """List a run's training images that are images of its benchmarks, and accuracies without them if it is scored."""
    suite = load_suite(configfile)
    named = suite.run(run)
    if named.pretrained_model is not None:
        raise UserError(f"run {run}: expected a run that trains; what a pretrained model was trained on is not known")
    from parrot.data.overlap import copies
    from parrot.evaluate.graded_csv import read_graded
    from parrot.report.overlap import overlapping, write_accuracies, write_copies

    settings, benchmarks = suite.config.overlap, named.shown_benchmarks
    folder = Path("work", suite.config.scale, "fingerprints")
    found, counts = copies((*named.align.data, *named.tune.data), benchmarks, settings, folder)
    write_copies(found, counts, run, settings, output)
    graded = Path("results", suite.config.scale, run, "graded.csv")
    if graded.is_file():
        write_accuracies(read_graded(graded, run), found, benchmarks, output)
    said = ", ".join(f"{len(overlapping(found, name))} of {count} images of {name}" for name, count in counts.items())
    print(f"parrot: {said} have a copy in training; {output / 'overlap.html'} shows them")


def misfit(suite: Suite, target: str) -> str:
    """Return why a run or family would stop before any job at this scale; "" if it would not."""
    try:
        suite.check(target)
        for name in (*suite.target(target), *suite.against(target)):
            check_inputs(suite.run(name))
        report_stage(suite, target)
    except UserError as error:
        return str(error)
    return ""


def _described(suite: Suite, target: str) -> str:
    members = f"family of {', '.join(suite.families[target])}; " if target in suite.families else ""
    return f"{members}compared with {', '.join(suite.against(target)) or 'nothing'}"
