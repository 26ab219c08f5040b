"""`parrot doctor` as a user calls it; Slurm's commands say that all is well."""

import os
import sys

import pytest

ANSWERS = {
    "scontrol": "Slurmctld(primary) at head is UP",
    "sinfo": "gpu*|up|infinite|gpu1|gpu1|idle|64|2000000|gpu:8",
    "sacctmgr": "lab|normal",
    "sacct": "",
    "sbatch": "sbatch: Job 1 to start at 2026-01-01T00:00:00 using 1 processors on nodes gpu1",
    **dict.fromkeys(("srun", "squeue", "scancel"), ""),
}


@pytest.fixture
def cluster(project):
    for name, answer in ANSWERS.items():
        stub = project / "stubs" / name
        stub.write_text(f"#!/bin/sh\necho '{answer}'\n")
        stub.chmod(0o755)
    return project


def doctor(project, *arguments):
    done = project.run(sys.executable, "-m", "parrot", "doctor", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [tuple(line.split(maxsplit=2)) for line in done.stdout.splitlines()]


def test_a_healthy_cluster(cluster):
    code, lines = doctor(cluster, "--profile", "slurm", "--configfile", "config/config.yaml", "--no-job")
    assert code == 0, lines
    assert {status for status, *_ in lines if status != "ok"} <= {"warning"}
    checks = [check for _, check, _ in lines]
    assert list(dict.fromkeys(checks)) == [
        *("profile", "config", "python", "packages", "data", "disk", "slurm", "workflow"),
        *("partition", "resources", "submission", "account", "status", "mlflow"),
    ]
    asked = {found.partition(":")[0] for _, check, found in lines if check == "resources"}
    # What runs beside Snakemake itself asks Slurm for nothing.
    assert asked == {"align", "tune", "predict_stage1", "predict", "score", "predictions_page", "report"}


def test_a_cluster_that_is_down(cluster):
    (cluster / "stubs/scontrol").write_text("#!/bin/sh\necho 'Slurmctld(primary) at head is DOWN'; exit 1\n")
    code, lines = doctor(cluster, "--profile", "slurm")
    assert code == 1
    assert lines[-1][:2] == ("failed", "slurm")


def test_this_machine(project):
    code, lines = doctor(project)
    assert [check for _, check, _ in lines] == [
        "config",
        "python",
        "packages",
        "data",
        "disk",
        "threads",
        "imports",
        "mlflow",
    ]
    assert code == 0, lines
    assert f"{os.uname().nodename}: torch " in {check: found for _, check, found in lines}["imports"]
