"""Two `snakemake` on one work folder, and what a killed one leaves."""

import os
import signal
import subprocess
import time

import pytest

from parrot.config.suite import Suite

SECONDS = 120
SLOWLY = "touch {output.report:q} started; sleep 60; : parrot fetch "


@pytest.fixture
def target(project):
    """What one job writes, which takes a minute and leaves its output half made when it is killed."""
    project.edit("workflow/rules/fetch.smk", '"parrot fetch ', f'"{SLOWLY}')
    return f"results/mini/data/{Suite.load().run('parrot').data_key}.json"


def test_a_second_snakemake_and_one_after_a_kill(project, target):
    first = subprocess.Popen(
        ["snakemake", "--cores", "1", target],
        cwd=project.folder,
        env=project.environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + SECONDS
        while not (project / "started").exists():
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        second = project.snakemake(target)
        assert second.returncode == 1
        assert f"parrot: another snakemake works in this folder: process {first.pid} on " in second.stderr
        assert "Directory cannot be locked" in second.stderr
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # with its job, which it would wait for
        first.wait()
    third = project.snakemake(target)
    assert third.returncode == 1
    (line,) = [line for line in third.stderr.splitlines() if line.startswith("parrot: ")]
    assert line.endswith("run `snakemake --unlock`, then repeat the command")
    assert project.snakemake("--dry-run", target).returncode == 0
    assert project.snakemake("--unlock").returncode == 0
    project.edit("workflow/rules/fetch.smk", "sleep 60", "sleep 0")
    again = project.snakemake(target)
    assert again.returncode == 0, again.stderr
    assert "1 of 1 steps (100%) done" in again.stderr
