"""How Snakemake was started in this folder: what it was asked for, and whether another one works here."""

from __future__ import annotations

import fcntl
import os
import sys
from argparse import Namespace
from collections.abc import Container, Iterable, Sequence
from contextlib import redirect_stderr, suppress
from functools import cache
from pathlib import Path

from parrot.config.runs import Run
from parrot.errors import UserError, nearest

RENAMED = {"align": "stage1"}  # targets by their former names
# Of a flag that is given twice Snakemake keeps the last, without a word.
ONCE = {"--configfile": ("--configfile", "--configfiles"), "--config": ("--config", "-C")}
# What Snakemake does without locking the folder.
WITHOUT_LOCK = (
    *("dryrun", "nolock", "unlock", "lint", "list_rules", "list_target_rules", "print_compilation", "dag", "rulegraph"),
    *("filegraph", "d3dag", "summary", "detailed_summary", "list_changes", "list_input_changes", "list_params_changes"),
    *("list_untracked", "cleanup_metadata", "report", "archive"),
)


@cache
def command_line() -> Namespace | None:
    """What Snakemake was asked for, by its own parser; None where another program runs it.

    Snakemake reads the workflow before it tells anybody which targets were asked for.
    """
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return None
    from snakemake.cli import parse_args

    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # it names the profile, a second time
        return parse_args(sys.argv[1:])[1]


def check_flags(words: Sequence[str]) -> None:
    """UserError for a flag of configuration that the `words` of a command line give twice."""
    options = [word for word in words[: words.index("--") if "--" in words else None] if word.startswith("-")]
    for flag, spellings in ONCE.items():
        if sum(option.partition("=")[0] in spellings for option in options) > 1:
            kind = "FILE" if flag == "--configfile" else "KEY=VALUE"
            raise UserError(f"{flag} is given twice; expected one, all that it names behind it: {flag} {kind} {kind}")


def check_inputs(run: Run) -> None:
    """UserError for a file of the run that Snakemake would take for a pattern."""
    for file in (run.config.data_pin or "", *run.fetch.given):
        if "{" in file or "}" in file:
            raise UserError(f"run {run.name}: {file}: expected a file name without braces, Snakemake's wildcards")


def check_targets(known: Iterable[str], rules: Container[str]) -> None:
    """Check that the command line's targets exist; paths are left to Snakemake.

    Raises:
        UserError: a word that is none of the `rules`, with the `known` targets like it; a target's former name.
    """
    asked = command_line()
    for target in asked.targets if asked else ():
        if target in RENAMED:
            raise UserError(f"target {target} is called {RENAMED[target]}: stage 1 of the report's runs")
        if os.sep not in target and target not in rules:
            raise UserError(f"unknown target {target}; {nearest(target, known)}")


def work_here(folder: Path = Path(".snakemake")) -> None:
    """Hold `folder` beside the other Snakemakes that work here; the kernel lets go when this one ends, however it ends.

    Two may work side by side, as far as their files differ, and a line tells of the other. Where a file system has no
    locks, or the file is another user's, nothing is held.

    Raises UserError where a killed one left its own lock, which Snakemake cannot tell from that of a living one.
    """
    asked = command_line()
    if asked is None or asked.mode.name != "DEFAULT" or any(getattr(asked, name, None) for name in WITHOUT_LOCK):
        return
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / "parrot.lock", os.O_RDWR | os.O_CREAT, 0o666)  # open while this process lives
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(descriptor, 200).decode()
        print(f"parrot: another snakemake works in this folder: {other}; no --unlock meanwhile", file=sys.stderr)
    except OSError:
        return
    else:
        if any((folder / "locks").glob("*.lock")):
            raise UserError(
                "a snakemake that was killed left this folder locked, and none works here now; "
                "type `snakemake --unlock`, then the same command again"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode())
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
