"""Command line: ``python -m parrot.mini.sources``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parrot.errors import in_one_line
from parrot.mini.sources.make import make


def main(
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("workflow/resources/mini"),
    work: Annotated[Path, typer.Option(help="folder that keeps the fetched packages")] = Path("work/sources"),
) -> None:
    """Make the mini scale's raw material anew: images and names of everyday concepts."""
    with in_one_line():
        for name, left in make(work, output).items():
            typer.echo(f"{left:5d}  {name}")


if __name__ == "__main__":
    typer.run(main)
