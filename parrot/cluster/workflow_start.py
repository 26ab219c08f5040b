"""Snakemake's command line in this folder: its targets and flags, and other Snakemake processes at work here."""

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
# If a flag is given twice, Snakemake silently keeps the last.
ONCE = {"--configfile": ("--configfile", "--configfiles"), "--config": ("--config", "-C")}
# Modes in which Snakemake does not lock the folder.
WITHOUT_LOCK = (
    *("dryrun", "nolock", "unlock", "lint", "list_rules", "list_target_rules", "print_compilation", "dag", "rulegraph"),
    *("filegraph", "d3dag", "summary", "detailed_summary", "list_changes", "list_input_changes", "list_params_changes"),
    *("list_untracked", "cleanup_metadata", "report", "archive"),
)


@cache
def command_line() -> Namespace | None:
    """Return Snakemake's parsed command line; None if another program runs the workflow.

    Snakemake reads the workflow before it publishes the requested targets.
    """
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return None
    from snakemake.cli import parse_args

    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # it reports the profile a second time
        return parse_args(sys.argv[1:])[1]


def check_flags(arguments: Sequence[str]) -> None:
    """Check that the arguments contain each configuration flag at most once.

    Raises:
        UserError: a flag is given twice.
    """
    end = arguments.index("--") if "--" in arguments else None
    options = [argument for argument in arguments[:end] if argument.startswith("-")]
    for flag, spellings in ONCE.items():
        if sum(option.partition("=")[0] in spellings for option in options) > 1:
            kind = "FILE" if flag == "--configfile" else "KEY=VALUE"
            raise UserError(f"{flag} is given twice; expected one with all its values: {flag} {kind} {kind}")


def check_inputs(run: Run) -> None:
    """Check that Snakemake can take the run's input files literally.

    Raises:
        UserError: a file name with braces.
    """
    for file in (run.config.data_pin or "", *run.fetch.given):
        if "{" in file or "}" in file:
            raise UserError(f"run {run.name}: {file}: expected a file name without braces, Snakemake's wildcards")


def check_targets(known: Iterable[str], rules: Container[str]) -> None:
    """Check that the command line's targets exist; paths are left to Snakemake.

    Raises:
        UserError: an unknown target, with the most similar of the `known` ones, or a target's former name.
    """
    parsed = command_line()
    for target in parsed.targets if parsed else ():
        if target in RENAMED:
            raise UserError(f"target {target} is called {RENAMED[target]}: stage 1 of the report's runs")
        if os.sep not in target and target not in rules:
            raise UserError(f"unknown target {target}; {nearest(target, known)}")


def work_here(folder: Path = Path(".snakemake")) -> None:
    """Hold a shared lock on `folder` until this process ends.

    Several Snakemakes may work side by side if their files differ; one line reports another one. Nothing is locked if
    the file system has no locks or the lock file belongs to another user.

    Raises:
        UserError: a killed Snakemake left its own lock, which Snakemake cannot tell from that of a running one.
    """
    parsed = command_line()
    if parsed is None or parsed.mode.name != "DEFAULT" or any(getattr(parsed, name, None) for name in WITHOUT_LOCK):
        return
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / "parrot.lock", os.O_RDWR | os.O_CREAT, 0o666)  # open while this process lives
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = os.read(descriptor, 200).decode()
        print(
            f"parrot: another snakemake works in this folder: {other}; do not use --unlock meanwhile", file=sys.stderr
        )
    except OSError:
        return
    else:
        if any((folder / "locks").glob("*.lock")):
            raise UserError(
                "a killed snakemake left this folder locked, and no other one works here; "
                "run `snakemake --unlock`, then repeat the command"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode())
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_SH)
