"""No skip without a reason of our own."""

from __future__ import annotations

from collections.abc import Generator
from fnmatch import fnmatch

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnknownMarkWarning")  # transformers' own marks


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test that the module's table SKIPPED does not name fails."""
    report = yield
    if report.skipped and not any(fnmatch(item.name, pattern) for pattern in item.module.SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"skipped, but not named in SKIPPED: {report.longrepr}"
    return report
