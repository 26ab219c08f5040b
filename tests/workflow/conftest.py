"""Copies of the repository in temporary folders."""

from pathlib import Path

import pytest

from tests.helpers.project import Project, new_project


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which tests read and dry-run alone; Snakemake leaves settings of whatever scale in it."""
    return new_project(tmp_path_factory.mktemp("pristine") / "project")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy that a test may change."""
    return new_project(tmp_path / "project")
