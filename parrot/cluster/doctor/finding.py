"""The finding of a check, as one line, and commands run with a time limit."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SECONDS = 30
SECONDS_TO_STOP = 10  # srun cancels its job on SIGTERM; after SIGKILL the job would stay


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: its name, what it found and, unless all is well, what to do."""

    status: Literal["ok", "warning", "failed"]
    check: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.status:<9}{self.check:<12}{' '.join(self.found.split())}{advice}"


def ok(check: str, found: str) -> Finding:
    """Report a passed check."""
    return Finding("ok", check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """Report a problem that need not stop a run, or a check that could not be made."""
    return Finding("warning", check, found, advice)


def failed(check: str, found: str, advice: str) -> Finding:
    """Report a problem that stops a run."""
    return Finding("failed", check, found, advice)


def listed(names: list[str], most: int = 4) -> str:
    """Format the first `most` names and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class Outcome:
    """A command's exit code and output; `code` is None after a timeout, 127 for a missing command."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def why(self) -> str:
        """The reason of a failure: the last line of the output."""
        if self.code is None:
            return "it did not answer in time"
        lines = re.findall(r"^.*\w.*$", self.err.strip() or self.out, re.MULTILINE)
        return lines[-1].strip("│ ") if lines else f"exit code {self.code}"


def execute(*command: str, seconds: float = SECONDS, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run `command` for at most `seconds`; failures are in the outcome, never raised."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=os.environ if environment is None else environment,
        )
    except OSError as error:
        return Outcome(127, err=f"{command[0]}: {error.strerror}")
    try:
        out, err = process.communicate(timeout=seconds)
        return Outcome(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        return Outcome(None)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
