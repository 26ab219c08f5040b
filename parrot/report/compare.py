"""`parrot compare`: runs that are done, side by side; nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parrot.config.runs import DEFAULT_CONFIG, Suite
from parrot.errors import UserError


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(help="runs or families; the first is compared with the others, by default its baselines"),
    ],
    configfile: Annotated[
        list[str] | None, typer.Option(help="config files laid over config/config.yaml, in order")
    ] = None,
) -> None:
    """Print accuracies and differences, with intervals and p, of runs that are done; nothing is trained."""
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or ())))
    first, *rest = runs
    members = suite.target(first)
    others = [name for target in rest for name in suite.target(target)] if rest else suite.against(first)
    baselines = [name for name in dict.fromkeys(others) if name not in members]
    if not baselines:
        raise UserError(f"expected a run to compare {first} with")
    results = Path("results", suite.config.scale)
    missing = [name for name in (*members, *baselines) if not _is_done(results / name)]
    if missing:
        files = f" --configfile {' '.join(configfile)} --" if configfile else ""
        made_by = f"snakemake --cores 2{files} {' '.join(missing)}"
        raise UserError(f"{', '.join(missing)}: no scores in {results}; `{made_by}` makes them")
    from parrot.report.settings import comparison_stage
    from parrot.report.side_by_side import text

    print(text(comparison_stage(suite, first, members, baselines), results))


def _is_done(run: Path) -> bool:
    return (run / "scores.csv").is_file() and (run / "graded.csv").is_file()
