"""Command line: ``python -m parrot.data.sources``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from parrot.config import ConfigError
from parrot.data.sources.make import make


def main(
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("workflow/resources/mini"),
    work: Annotated[Path, typer.Option(help="folder that keeps the fetched packages")] = Path("work/sources"),
) -> None:
    """Make the mini scale's raw material anew: pictures and names of everyday concepts."""
    try:
        counts = make(work, output)
    except (ConfigError, OSError) as error:
        typer.echo(f"parrot.data.sources: {error}", err=True)
        sys.exit(1)
    for name, left in counts.items():
        typer.echo(f"{left:5d}  {name}")


if __name__ == "__main__":
    typer.run(main)
