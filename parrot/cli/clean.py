"""`parrot clean`: list or remove files that no run of a config can use."""

from __future__ import annotations

from typing import Annotated

import typer

from parrot.cli.leftovers import Leftover, leftovers, size_of
from parrot.config import limits
from parrot.config.suite import DEFAULT_CONFIG, Suite
from parrot.io.files import remove
from parrot.io.lock import remove_lock, unless_held


def clean(
    configfile: Annotated[
        list[str] | None, typer.Option(help="config files merged over config/config.yaml, in order")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="remove the listed files; default: only list them")] = False,
) -> None:
    """List checkpoints, caches and partial files that no run of the config can use.

    Results and data are never removed, nor are files that another process has locked or may still be writing.
    """
    suite = Suite.load((*DEFAULT_CONFIG, *(configfile or ())))
    limits.use(suite.config.limits)
    removed, left = tidy(suite, yes)
    if not removed:
        print("parrot: nothing to remove")
    else:
        done = "removed" if yes else "to remove with --yes"
        print(f"parrot: {len(removed)} {done}, {readable(sum(removed))} in all")
    if left:
        raise typer.Exit(1)


def tidy(suite: Suite, yes: bool) -> tuple[list[int], int]:
    """Print a line for each leftover, and remove it if `yes`.

    Returns:
        The sizes in bytes of the removed (or removable) ones, and the number of those that could not be removed.
    """
    sizes, failed = [], 0
    for found in leftovers(suite):
        size = size_of(found.path)
        kept = found.kept or (_remove(found) if yes else "")
        if kept:
            print(f"kept {found.path}: {readable(size)}: {found.why}; {kept}")
            failed += not found.kept
        else:
            print(f"{'removed ' if yes else ''}{found.path}: {readable(size)}: {found.why}")
            sizes.append(size)
    return sizes, failed


def readable(size: int) -> str:
    """Format a number of bytes in the largest decimal unit that gives at least 1."""
    power = min((len(str(size)) - 1) // 3, 4)
    return f"{size / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _remove(found: Leftover) -> str:
    """Remove a leftover; return why it cannot be removed, or ""."""
    try:
        if found.path.suffix == ".lock":
            remove_lock(found.path)
            return ""
        with unless_held(found.path) as holder:
            if holder:
                return f"held by {holder}"
            remove(found.path)
    except OSError as error:
        return f"cannot be removed: {error.strerror}"
    return ""
