"""`parrot doctor`: the profile and this machine."""

import importlib.metadata
import os
import platform

import pytest

from parrot.cluster.doctor import machine
from parrot.cluster.doctor.examine import examine
from parrot.config.hardware import Hardware


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


def test_python(monkeypatch):
    assert str(machine.check_python()) == f"ok       python      {platform.python_version()}"
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.2+")
    assert machine.check_python().status == "ok"
    monkeypatch.setattr(platform, "python_version", lambda: "3.12.1")
    assert str(machine.check_python()) == (
        "failed   python      3.12.1, expected <3.12,>=3.11; rebuild the environment with that Python"
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
    assert str(machine.check_packages()) == (
        "failed   packages    missing: no-such-package; pip install -c constraints.txt -e ."
    )
    wanted[:] = ["pyyaml<2,>=1.0", 'deepspeed==0.19.8; extra == "gpu"']
    found = importlib.metadata.version("pyyaml")
    assert str(machine.check_packages()) == (
        f"warning  packages    in untested versions: pyyaml {found} (expected <2,>=1.0); "
        "pip install -c constraints.txt -e ."
    )
