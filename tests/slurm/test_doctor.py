"""`parrot doctor` on a real cluster."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

CONFIG = ("--profile", "slurm", "--configfile", "config/config.yaml", "--configfile", "config/small.yaml")


def doctor(project, *arguments):
    done = project.run(sys.executable, "-m", "parrot", "doctor", *CONFIG, *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_cluster_that_is_ready(project):
    code, lines = doctor(project, "--wait", "120")
    assert code == 0, lines
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert f"ok       shared      gpu1, gpu2: {project.folder} and {sys.executable} are there" in lines
    imports = [line for line in lines if line.split()[1] == "imports"]
    assert [line.partition(": torch ")[0] for line in imports] == [
        "ok       imports     gpu1",
        "ok       imports     gpu2",
    ]


def test_what_would_stop_a_training(project):
    one_each = "align: {micro_batch: 1}, tune: {micro_batch: 1}"
    (project / "config/more.yaml").write_text(f"hardware: {{device: cuda, gpu_model: h100, nodes: 4, {one_each}}}\n")
    code, lines = doctor(project, "--configfile", "config/more.yaml", "--no-job")
    assert code == 1
    assert [line for line in lines if line.startswith("failed ") and " tune: " in line] == [
        "failed   resources   tune: GPU model h100 is not known on partition gpu, which has no models named; "
        "hardware.gpu_model: leave it out and choose nodes by `constraint` in the profile",
        "failed   resources   tune: requests 4 nodes, partition gpu has 2; "
        "lower hardware.nodes, or name another partition",
    ]


def test_gpus_that_are_none_and_a_full_queue(project):
    (project / "config/gpus.yaml").write_text("hardware: {device: cuda}\n")
    code, lines = doctor(project, "--configfile", "config/gpus.yaml", "--wait", "120")
    assert code == 1
    assert [line for line in lines if line.startswith("failed ")] == [
        f"failed   imports     {node}: torch sees 0 GPUs, expected 2; "
        "compare with nvidia-smi -L in such a job, and torch.version.cuda with the driver"
        for node in ("gpu1", "gpu2")
    ]
    everything = ["sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 300"]
    job = subprocess.run(everything, capture_output=True, text=True, check=True).stdout.strip()
    try:
        code, lines = doctor(project, "--configfile", "config/gpus.yaml", "--wait", "3")
    finally:
        subprocess.run(["scancel", job], check=True)
    assert code == 0, lines
    assert [line.partition(";")[0] for line in lines if not line.startswith("ok ")] == [
        f"warning  {check:<12}not checked: no node became free and answered within 3 s"
        for check in ("shared", "imports")
    ]
