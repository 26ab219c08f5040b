"""What a check finds, as one line, and asking other programs, never for longer than a given time."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SECONDS = 30
SECONDS_TO_STOP = 10  # srun gives its job back on SIGTERM; killed at once it would leave it running


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: what was looked at, what was found and, unless all is well, what to do."""

    status: Literal["ok", "warning", "failed"]
    check: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.status:<9}{self.check:<12}{' '.join(self.found.split())}{advice}"


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding("ok", check, found)


def warning(check: str, found: str, advice: str) -> Finding:
    """A run may go well all the same, or the check could not be made."""
    return Finding("warning", check, found, advice)


def failed(check: str, found: str, advice: str) -> Finding:
    """A run would not go well."""
    return Finding("failed", check, found, advice)


def listed(names: list[str], most: int = 4) -> str:
    """The first of `names`, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True)
class Answer:
    """What a command said; `code` is None where it took too long, 127 where there is no such command."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def why(self) -> str:
        """The command's last word."""
        if self.code is None:
            return "it did not answer in time"
        said = re.findall(r"^.*\w.*$", self.err.strip() or self.out, re.MULTILINE)
        return said[-1].strip("│ ") if said else f"exit code {self.code}"


def ask(*command: str, seconds: float = SECONDS, environment: Mapping[str, str] | None = None) -> Answer:
    """Run `command` and wait `seconds` at most; nothing that it does is an exception."""
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
        return Answer(127, err=f"{command[0]}: {error.strerror}")
    try:
        out, err = process.communicate(timeout=seconds)
        return Answer(process.returncode, out, err)
    except subprocess.TimeoutExpired:
        return Answer(None)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
