"""Two `snakemake` on one work folder."""

import os
import signal
import subprocess
import time

SECONDS = 120


def test_a_second_snakemake_says_that_another_one_works_here(project):
    project.edit("workflow/rules/track.smk", '"parrot track init 2>&1 | log {log}"', '"touch started; sleep 60"')
    command = ["snakemake", "--cores", "1", "results/mini/tracking"]
    first = subprocess.Popen(
        command, cwd=project.folder, env=project.environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + SECONDS
        while not (project / "started").exists():
            assert first.poll() is None
            assert time.monotonic() < end
            time.sleep(0.2)
        second = project.snakemake("results/mini/tracking")
        assert second.returncode == 1
        assert "Directory cannot be locked" in second.stderr
        assert first.poll() is None
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # with its job, which it would wait for
        first.wait()
