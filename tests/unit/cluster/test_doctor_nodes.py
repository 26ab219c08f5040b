"""`parrot doctor`: what compute nodes see and import, by way of an srun that runs everything here."""

import importlib.metadata
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from parrot.cluster.doctor import machine, nodes
from parrot.cluster.doctor.requests import Request
from parrot.config.hardware import Hardware
from tests.helpers.fake_slurm import SRUN, FakeSlurm

REQUEST = Request(
    rule="tune", partition="gpu", nodes=1, gpus=2, gpu_model="", cpus=4, memory=4000, minutes=60, account="", qos=""
)
VERSIONS = {"torch": "2.13.0+cu130", "transformers": "5.23.0"}
BUSY = "srun: error: Unable to allocate resources: Requested nodes are busy"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "bin")
    monkeypatch.setenv("PATH", fake.path)
    repository = tmp_path / "repository"
    repository.mkdir()
    monkeypatch.chdir(repository)
    return fake


def hardware(**changes):
    stage = {"micro_batch": 1}
    return Hardware(**{"predict_batch": 1, "align": stage, "tune": stage, "gpus": 2, **changes})


def one_line(**changes):
    probe = {"host": "gpu1", "versions": VERSIONS, "broken": {}, "gpus": ["H100", "H100"]}
    return json.dumps({**probe, **changes})


def imported(**changes):
    return [str(each) for each in nodes.check_imports(REQUEST, hardware(**changes), wait=5)]


def test_shared_folder(slurm, tmp_path):
    assert str(nodes.check_shared(REQUEST, wait=5)) == (
        f"ok       shared      gpu1: {tmp_path}/repository and {sys.executable} are there"
    )
    assert list((tmp_path / "repository").iterdir()) == []


def test_folder_that_nodes_do_not_see(slurm, tmp_path):
    # What the node has under the same names is another folder.
    slurm.runs("srun", f"rm -f {tmp_path}/repository/.parrot-doctor-*\n{SRUN}")
    assert str(nodes.check_shared(REQUEST, wait=5)) == (
        f"failed   shared      gpu1: no {tmp_path}/repository as it is here; "
        "keep the repository, its data and the environment on a file system that all nodes mount"
    )


def test_data_and_environment_that_nodes_do_not_see(slurm, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "repository/data").symlink_to(tmp_path / "scratch")
    slurm.runs("srun", f"rmdir {tmp_path}/scratch\n{SRUN}")
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/venv/bin/python")
    assert str(nodes.check_shared(REQUEST, wait=5)) == (
        f"failed   shared      gpu1: no {tmp_path}/repository/data, gpu1: no {tmp_path}/venv/bin/python; "
        "keep the repository, its data and the environment on a file system that all nodes mount"
    )


def test_a_full_queue_is_a_warning(slurm):
    slurm.says("srun", error=BUSY, code=1)
    advice = "wait longer with --wait, or skip it with --no-job"
    assert str(nodes.check_shared(REQUEST, wait=5)) == (
        f"warning  shared      not checked: no node became free and answered within 5 s; {advice}"
    )
    assert imported() == [f"warning  imports     not checked: no node became free and answered within 5 s; {advice}"]


def test_what_srun_refuses(slurm):
    slurm.says("srun", error="srun: error: Unable to allocate resources: Invalid account specified", code=1)
    assert imported() == [
        "failed   imports     srun: Unable to allocate resources: Invalid account specified; run srun by hand"
    ]


def test_a_job_is_asked_for_as_the_rule_asks(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    slurm.runs("srun", f'echo "$SLURM_JOB_ID" "$@" > {tmp_path}/asked\necho \'{one_line()}\'')
    request = Request(**{**vars(REQUEST), "gpu_model": "h100", "account": "lab", "qos": "long"})
    nodes.check_imports(request, hardware(), wait=7)
    asked = (tmp_path / "asked").read_text().split()
    assert " ".join(asked[:-5]) == (
        "--nodes=1 --ntasks=1 --ntasks-per-node=1 --cpus-per-task=1 --time=5 --immediate=7 "
        "--job-name=parrot-doctor --partition=gpu --account=lab --qos=long --mem=4000 --gres=gpu:h100:2"
    )
    assert asked[-5:] == [sys.executable, "-m", "parrot.cluster.doctor.probe", "torch", "transformers"]


def test_imports(slurm):
    slurm.says("srun", f"a line of another package's\n{one_line()}")
    assert imported() == ["ok       imports     gpu1: torch 2.13.0+cu130, transformers 5.23.0; 2 x H100"]


def test_gpus_that_torch_does_not_see(slurm):
    slurm.says("srun", one_line(gpus=["H100"]))
    assert imported() == [
        "failed   imports     gpu1: torch sees 1 GPUs, expected 2; "
        "compare with nvidia-smi -L in such a job, and torch.version.cuda with the driver"
    ]
    slurm.says("srun", one_line(gpus=[]))
    assert imported(device="cpu") == ["ok       imports     gpu1: torch 2.13.0+cu130, transformers 5.23.0"]


def test_a_package_that_does_not_import(slurm):
    slurm.says("srun", one_line(broken={"deepspeed": "ModuleNotFoundError: No module named 'deepspeed'"}))
    assert imported() == [
        "failed   imports     gpu1: deepspeed: ModuleNotFoundError: No module named 'deepspeed'; "
        "install environment.yml or pip install -c constraints.txt -e '.[gpu]' in the jobs' environment"
    ]


def test_flash_attention_alone_is_installed_behind_all_else(slurm):
    slurm.says("srun", one_line(broken={"flash_attn": "ModuleNotFoundError: No module named 'flash_attn'"}))
    assert imported() == [
        "failed   imports     gpu1: flash_attn: ModuleNotFoundError: No module named 'flash_attn'; "
        "pip install --no-build-isolation -c constraints.txt -e '.[gpu,flash]' in the jobs' environment"
    ]


@pytest.mark.parametrize(
    ("version", "told"), [("2.8.3", []), ("2.8.3.post2", []), ("2.8.2", ["flash_attn <2.9,>=2.8.3"])]
)
def test_flash_attention_of_another_release_is_named(monkeypatch, version, told):
    ranges = ["torch>=2.11,<2.14", 'flash-attn>=2.8.3,<2.9; extra == "flash"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ranges)
    assert machine.misfits({"torch": "2.13.0+cu130", "flash_attn": version}) == told


def test_a_version_that_was_not_tried(slurm, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ['deepspeed>=0.19,<0.20; extra == "gpu"'])
    slurm.says("srun", one_line(versions={**VERSIONS, "deepspeed": "0.18.0"}))
    assert imported() == [
        "warning  imports     gpu1: torch 2.13.0+cu130, transformers 5.23.0, deepspeed 0.18.0; 2 x H100; "
        "tested were deepspeed <0.20,>=0.19; results may differ in their last digits"
    ]


def test_the_probe_tells_what_it_could_not_import(slurm, monkeypatch):
    monkeypatch.setattr(nodes, "needed", lambda hardware: ["yaml", "no_such_module"])
    assert imported() == [
        "failed   imports     gpu1: no_such_module: ModuleNotFoundError: No module named 'no_such_module'; "
        "install environment.yml or pip install -c constraints.txt -e '.[gpu]' in the jobs' environment"
    ]


def test_a_server_is_asked_from_the_nodes_too(slurm, monkeypatch):
    monkeypatch.setattr(nodes, "needed", lambda hardware: ["yaml"])
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # which knows no page
    threading.Thread(target=server.handle_request, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert imported(device="cpu")[1:] == [
        f"failed   mlflow      gpu1: {uri}: HTTP Error 501: Unsupported method ('GET'); "
        "check that this address is an MLflow server's"
    ]
    server.server_close()
    assert imported(device="cpu")[1:] == [
        f"failed   mlflow      gpu1: {uri} does not respond: [Errno 111] Connection refused; "
        "start it with a host name and port that jobs can reach"
    ]
    answers = {"status": "ok", "check": "mlflow", "found": f"{uri} answers", "advice": ""}
    slurm.says("srun", one_line(server=answers, host="gpu2") + "\n" + one_line(server=answers))
    assert [line.partition(": ")[0] for line in imported()] == [
        *("ok       imports     gpu1", "ok       imports     gpu2"),
        *("ok       mlflow      gpu1", "ok       mlflow      gpu2"),
    ]


def test_what_a_training_imports():
    assert machine.needed(hardware()) == ["torch", "transformers"]
    asked = {"micro_batch": 1, "strategy": "zero3", "attention": "flash_attention_2"}
    assert machine.needed(hardware(tune=asked)) == ["torch", "transformers", "deepspeed", "flash_attn"]
