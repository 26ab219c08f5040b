"""`parrot doctor`: the profile and this machine."""

import importlib.metadata
import os
import platform
from pathlib import Path

import pytest

from parrot.cluster.doctor import machine, packages, profile
from parrot.cluster.doctor.command import Answer
from parrot.cluster.doctor.examine import examine
from parrot.config.hardware import Hardware
from parrot.errors import ConfigError

ROOT = Path(__file__).parents[3]
DRY_RUN = """\
Building DAG of jobs...
rule project:
    output: results/projector
    wildcards: key=d8219321130b
    threads: 16
    resources: tmpdir=/tmp, gres=gpu:h100:8, nodes=2, slurm_partition=gpu,small, slurm_account=lab, constraint=ib, \
slurm_extra=--signal=TERM@300 --mail-type=END, runtime=1440, mem_mb=400000, mem=400 GB
[Sun Nov 22 04:07:01 2026]
rule score:
    output: results/scores.csv
    resources: tmpdir=/tmp, runtime=60, mem_mb=8000

rule fetch:
    output: results/data.json
    resources: tmpdir=/tmp, runtime=720, mem_mb=2000
rule predict:
    output: results/predictions
    resources: tmpdir=/tmp, gpu=4, gpu_model=a100, qos=long, runtime=60, mem_mb=8000
rule predict:
    output: results/other/predictions
    resources: tmpdir=/tmp, gpu=4, gpu_model=a100, qos=long, runtime=60, mem_mb=8000
Job stats:
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def examined(*arguments):
    return [str(finding) for finding in examine(*arguments)]


def hardware(**changes):
    stage = {"micro_batch": 1}
    return Hardware(**{"predict_batch": 1, "align": stage, "tune": stage, **changes})


def test_profile_that_is_not_there(here):
    assert examined("slurm", [], None) == [
        "failed   profile     no slurm/profile.yaml here, nor in Snakemake's folders for profiles; "
        "correct it; nothing else was checked"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "executor: [",
            "slurm/profile.yaml: line 1, column 12: while parsing a flow node, expected the node content, "
            "but found '<stream end>'",
        ),
        ("jobs: 4", "slurm/profile.yaml: executor: expected slurm, found none"),
    ],
)
def test_profile_that_does_not_read(here, text, told):
    (here / "slurm").mkdir()
    (here / "slurm/profile.yaml").write_text(text)
    assert examined("slurm", [], None) == [f"failed   profile     {told}; correct it; nothing else was checked"]


def test_config_that_does_not_read(here):
    (here / "slurm").mkdir()
    (here / "slurm/profile.yaml").write_text("executor: slurm\nconfigfile: config/paper.yaml")
    assert examined("slurm", [], None)[1:] == [
        "failed   config      config/config.yaml: cannot be read: No such file or directory; "
        "correct it; nothing else was checked"
    ]


def test_workflow_that_snakemake_refuses(monkeypatch):
    refused = Answer(1, err="Using profile slurm for setting default command line arguments.\nparrot: error: wrong\n")
    monkeypatch.setattr(profile, "ask", lambda *command, seconds: refused)
    with pytest.raises(ConfigError, match="^parrot: error: wrong$"):
        profile.requests("slurm", [], "")


def test_what_jobs_ask_for(monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = []

    def dry_run(*command, seconds):
        commands.append(command)
        return Answer(0, out=DRY_RUN)

    with monkeypatch.context() as patch:
        patch.setattr(profile, "ask", dry_run)
        found = profile.requests("slurm", ["a.yaml", "b.yaml"], "")
        everyones = profile.requests("slurm", [], "short")
    assert found == [
        profile.Request("project", "gpu,small", 2, 8, "h100", 16, 400000, 1440, "lab", "", "ib"),
        profile.Request("score", "", 1, 0, "", 1, 8000, 60, "", ""),
        profile.Request("predict", "", 1, 4, "a100", 1, 8000, 60, "", "long"),
    ]
    assert {request.qos for request in everyones} == {"short"}
    assert commands[0][1:8] == ("-m", "snakemake", "--profile", "slurm", "--configfile", "a.yaml", "b.yaml")


def test_python(monkeypatch):
    assert str(machine.check_python()) == f"ok       python      {platform.python_version()}"
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.2+")
    assert machine.check_python().status == "ok"
    monkeypatch.setattr(platform, "python_version", lambda: "3.12.1")
    assert str(machine.check_python()) == (
        "failed   python      3.12.1, expected <3.12,>=3.11; make the environment anew with that Python"
    )


def test_threads():
    cores = len(os.sched_getaffinity(0))
    assert str(machine.check_threads(hardware())) == f"ok       threads     a job takes 1 of {cores} cores"
    assert str(machine.check_threads(hardware(threads=cores + 1))) == (
        f"warning  threads     a job takes {cores + 1}, this machine has {cores} cores; "
        "lower hardware.threads, or run on Slurm"
    )


def test_packages(monkeypatch):
    wanted = [*importlib.metadata.requires("parrot"), "no-such-package==1.0"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    assert str(packages.check_packages()) == (
        "failed   packages    missing: no-such-package; pip install -c constraints.txt -e ."
    )
    wanted[:] = ["pyyaml<2,>=1.0", 'deepspeed==0.19.8; extra == "gpu"']
    found = importlib.metadata.version("pyyaml")
    assert str(packages.check_packages()) == (
        f"warning  packages    in versions that were not tried: pyyaml {found} (expected <2,>=1.0); "
        "pip install -c constraints.txt -e ."
    )
