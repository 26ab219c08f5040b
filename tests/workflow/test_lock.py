"""Two `snakemake` on one work folder."""

import os
import signal
import subprocess
import time

from parrot.runs import Suite

SECONDS = 120


def test_a_second_snakemake_says_that_another_one_works_here(project):
    target = f"results/mini/data/{Suite.load().run('parrot').data_key}.json"
    project.edit("workflow/rules/fetch.smk", '"parrot fetch ', '"touch started; sleep 60; parrot fetch ')
    command = ["snakemake", "--cores", "1", target]
    first = subprocess.Popen(
        command, cwd=project.folder, env=project.environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + SECONDS
        while not (project / "started").exists():
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        second = project.snakemake(target)
        assert second.returncode == 1
        assert "Directory cannot be locked" in second.stderr
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # with its job, which it would wait for
        first.wait()
