"""`parrot overlap`: training images that are benchmark images too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parrot.cli.options import ConfigFiles, Output, load_suite
from parrot.errors import UserError


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
