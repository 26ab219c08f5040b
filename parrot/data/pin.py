"""DVC holds a scale's data to its pin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from parrot.config import ConfigError


def confirm(pin: Path) -> None:
    """Take data that equals its pin into DVC's cache; the pin itself is never rewritten.

    A fresh clone's rebuild is unknown to the cache, so that `dvc status` would call it changed: `dvc commit` without
    force takes it in, and refuses data whose digest is not the pin's.

    Raises ConfigError when there is no pin, DVC is not set up, or the data is not what was pinned.
    """
    if not pin.is_file():
        raise ConfigError(f"{pin}: no such pin; `dvc add` of the data's folder makes it")
    for command in ("commit", "status"):
        done = _dvc(command, "--quiet", str(pin))
        if done.returncode:
            said = (done.stderr.strip() or "the data's digest is not the pinned one").splitlines()[0]
            raise ConfigError(f"{pin}: the data is not what was pinned: dvc {command}: {said}")


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
