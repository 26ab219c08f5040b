"""The cluster, and a copy of the repository whose jobs it runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.project import Project, new_project
from tests.slurm import cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """A running cluster; one that was started by hand is left as it is."""
    if reason := cluster.unavailable():
        pytest.skip(reason)
    if cluster.running():
        yield
        return
    cluster.start()
    yield
    cluster.stop()


@pytest.fixture(scope="module")
def project(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_project(tmp_path_factory.mktemp("slurm") / "project")
    (project / "stubs/scontrol").unlink()  # Slurm's own answers here
    (project / "config/small.yaml").write_bytes(Path(__file__).with_name("mini.yaml").read_bytes())
    return project
