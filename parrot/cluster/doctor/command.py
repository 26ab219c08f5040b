"""Asking other programs, never for longer than a given time."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = 30
SECONDS_TO_STOP = 10  # srun gives its job back on SIGTERM; killed at once it would leave it running


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
