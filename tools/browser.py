"""Headless Chromium: a page once its scripts have run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from parrot.errors import UserError

# No sandbox as root (containers, CI); no background traffic, which a closed network refuses at every start.
FLAGS = (
    "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
MILLISECONDS_TO_SETTLE = 30_000
SECONDS_AT_MOST = 300


def screenshot(url: str, path: Path, width: int, height: int) -> None:
    """Write the page as it looks in a window of `width` x `height` to `path` (PNG); UserError without Chromium."""
    chromium(url, f"--screenshot={path.resolve()}", f"--window-size={width},{height}")


def installed() -> str | None:
    """Return the path of Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def chromium(url: str, *flags: str) -> str:
    """Return what Chromium, started with `flags`, prints of the page.

    Raises:
        UserError: there is no Chromium.
    """
    if (binary := installed()) is None:
        raise UserError("Chromium is not installed: apt-get install chromium")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        settle = [f"--user-data-dir={profile}", f"--virtual-time-budget={MILLISECONDS_TO_SETTLE}"]
        command = [binary, *FLAGS, *sandbox, *settle, *flags, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_AT_MOST, check=True)
    return done.stdout
