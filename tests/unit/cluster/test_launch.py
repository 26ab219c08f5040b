"""Starting a training job's processes, on commands that stand in for Slurm's and under the real torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parrot.cluster import launch as module
from parrot.cluster.launch import launch
from parrot.errors import UserError
from parrot.train.preemption import requeue

TRAIN = ["train", "align", "--output", "out"]

# What a stage of one of the job's processes would see: its place, and what it may use.
WORKER = """
import os, sys
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
with open(f"{sys.argv[1]}.{os.environ['RANK']}", "w") as file:
    file.write(" ".join(os.environ[name] for name in names))
sys.exit(int(sys.argv[2]) if os.environ["RANK"] == "1" else 0)
"""


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)


@pytest.fixture
def became(monkeypatch):
    """The command that the launcher turns into, in place of turning into it."""

    class Became(Exception):
        pass

    def become(file, command):
        raise Became(*command)

    monkeypatch.setattr(os, "execvp", become)
    return Became


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch):
    """Slurm's commands, as scripts on PATH that log their arguments and answer what a test says."""

    def command(name: str, script: str) -> None:
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{script}\n')
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "31234")
    command.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    return command


def test_without_gpus_the_launcher_becomes_the_one_process(became):
    with pytest.raises(became) as seen:
        launch(TRAIN, nodes=1, gpus=0, threads=2, device="cuda")
    assert seen.value.args == (sys.executable, "-m", "parrot", *TRAIN)


def test_several_nodes_start_one_launcher_each_with_all_cores(became, slurm):
    with pytest.raises(became) as seen:
        launch(TRAIN, nodes=2, gpus=8, threads=16, device="cuda")
    step, again = seen.value.args[:6], seen.value.args[6:]
    assert step[0] == "srun"
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1", "--cpus-per-task=16"} <= set(step)
    assert again[:4] == (sys.executable, "-m", "parrot", "launch")
    assert again[-len(TRAIN) - 1 :] == ("--", *TRAIN)
    assert {"--nodes=2", "--gpus=8", "--threads=16", "--device=cuda"} == set(again[4 : -len(TRAIN) - 1])


def test_inside_the_step_the_nodes_meet_at_the_first_ones_address(slurm, monkeypatch):
    slurm(
        "scontrol",
        'case "$2" in hostnames) printf "node3\\nnode7\\n";; node) echo "NodeName=$3 NodeAddr=10.0.0.$3";; esac',
    )
    for name, value in {"STEP_NUM_NODES": "2", "STEP_NODELIST": "node[3,7]", "NODEID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    started = []
    monkeypatch.setattr(module, "_torchrun", lambda arguments: started.append(arguments) or 0)
    with pytest.raises(SystemExit) as ended:
        launch(TRAIN, nodes=2, gpus=2, threads=4, device="cpu")
    assert ended.value.code == 0
    (arguments,) = started
    assert {"--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-id=31234"} <= set(arguments)
    assert {"--rdzv-endpoint=10.0.0.node3:21234", "--local-addr=10.0.0.node7"} <= set(arguments)
    assert "--rdzv-conf=is_host=0" in arguments
    assert arguments[-len(TRAIN) - 1 :] == ["parrot", *TRAIN]


@pytest.mark.parametrize(
    ("nodes", "gpus", "says"),
    [
        (2, 0, "hardware.gpus: 2 nodes need processes; expected at least 1 per node"),
        (2, 1, "hardware.nodes: 2 nodes need a Slurm job; expected 1 outside of one"),
        (1, 3, "hardware.gpus: expected 3 visible GPUs on .*, found 1"),
    ],
)
def test_hardware_that_is_not_there_is_refused(became, monkeypatch, nodes, gpus, says):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=says):
        launch(TRAIN, nodes, gpus, threads=1, device="cuda")


def launched(tmp_path: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Two processes of a package `parrot` that holds nothing but WORKER, started by the real launcher."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "parrot").mkdir()
    (tmp_path / "parrot/__main__.py").write_text(WORKER)
    return subprocess.run(launcher(tmp_path, code), cwd=tmp_path / "empty", capture_output=True, text=True)


def launcher(tmp_path: Path, code: int) -> list[str]:
    start = (
        "from parrot.cluster.launch import launch; import os, sys; os.environ['PYTHONPATH'] = sys.argv[1];"
        "launch([sys.argv[1] + '/seen', sys.argv[2]], nodes=1, gpus=2, threads=6, device='cpu')"
    )
    return [sys.executable, "-c", start, str(tmp_path), str(code)]


def test_processes_share_cores_and_see_no_gpu(tmp_path):
    done = launched(tmp_path, 0)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"seen.{rank}").read_text() for rank in range(2)] == ["0 0 2 3 ", "1 1 2 3 "]


def test_a_process_that_fails_is_named_in_one_line(tmp_path):
    done = launched(tmp_path, 3)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("parrot: error:")]
    assert line.startswith("parrot: error: process 1, on ")
    assert line.endswith(", ended with exit code 3; see its output above")


def test_processes_that_stopped_on_sigterm_are_no_failure_of_theirs(tmp_path):
    done = launched(tmp_path, 143)
    assert done.returncode == 143
    assert "parrot: error:" not in done.stderr


@pytest.mark.parametrize(("state", "requeued"), [("RUNNING", True), ("COMPLETING", False), ("", False)])
def test_a_running_job_is_requeued_and_a_cancelled_one_is_not(slurm, state, requeued):
    slurm("squeue", f"echo {state}")
    slurm("scontrol", "")
    requeue()
    assert ("scontrol requeue 31234" in slurm.calls()) is requeued


def test_a_job_that_slurm_does_not_take_back_says_so(slurm, capsys):
    slurm("squeue", "echo RUNNING")
    slurm("scontrol", "echo 'Job has been disabled from requeue' >&2; exit 1")
    requeue()
    assert "is not put back in the queue: scontrol requeue 31234: Job has been disabled" in capsys.readouterr().err


def test_a_job_told_to_stop_before_its_first_step_is_requeued(slurm, tmp_path):
    slurm("squeue", "echo RUNNING")
    slurm("scontrol", "")
    (tmp_path / "empty").mkdir()
    (tmp_path / "parrot").mkdir()
    (tmp_path / "parrot/__main__.py").write_text("import os, time; os.write(1, b'here\\n'); time.sleep(60)")
    with subprocess.Popen(launcher(tmp_path, 0), cwd=tmp_path / "empty", stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "here\n"
        job.terminate()
    assert job.returncode == 143
    assert "scontrol requeue 31234" in slurm.calls()


def test_outside_of_slurm_nothing_is_requeued(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))  # no command would be found
    requeue()
    assert capsys.readouterr().err == ""
