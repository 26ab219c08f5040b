"""Options and fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tools.browser import installed

# Where tests run in a Slurm job, a training that is stopped must not put that job back in the queue.
os.environ.pop("SLURM_JOB_ID", None)
# A shell has the interrupts of what it starts in the background ignored, and so would be those that tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        type=Path,
        default=HERE / "golden",
        metavar="PATH",
        help="folder of reference values, holding model/ and eval/ (default: tests/golden)",
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and installed() is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder of reference values that was asked for."""
    return request.config.getoption("--golden")
