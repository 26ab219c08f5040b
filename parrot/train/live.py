"""Starts the process that shows a training in MLflow while it goes on, and tells it how the training ended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How long a training that is done waits for the rest to be sent; a stopped one has its grace period to think of.
SECONDS_AFTER_END, SECONDS_AFTER_STOP = 30.0, 5.0


@contextmanager
def live_tracking(identity: str | None, folder: Path, output: Path) -> Iterator[None]:
    """Send the record that grows in `folder` to the MLflow run of the tag ``parrot.id`` `identity`; None: to none.

    A finished training has moved its record from `folder` to `output`, a stopped one has not. Whatever the store does,
    the training loses at most the seconds after its end.
    """
    if identity is None:
        yield
        return
    command = [sys.executable, "-m", "parrot.tracking.live", identity, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    message, seconds = "died", SECONDS_AFTER_STOP
    try:
        yield
        if folder.exists():
            message = "stopped"
        else:
            message, seconds = f"finished {output}", SECONDS_AFTER_END
    finally:
        _end(process, message, seconds)


def _end(process: subprocess.Popen[str], message: str, seconds: float) -> None:
    try:
        process.communicate(f"{message}\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        line = f"parrot: warning: MLflow did not take everything within {seconds:g} s; `parrot track` imports the rest"
        print(line, file=sys.stderr)
