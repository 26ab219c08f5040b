"""`parrot doctor`: the profile, this machine, its data and MLflow's store."""

import importlib.metadata
import os
import platform
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from parrot.config import ConfigError
from parrot.doctor import machine, packages, profile, storage
from parrot.doctor.command import Answer
from parrot.doctor.data import check_data
from parrot.doctor.examine import examine
from parrot.hardware import Hardware
from parrot.runs import Suite

ROOT = Path(__file__).parents[2]
HOST = os.uname().nodename
SERVER = f"run `mlflow server --host 0.0.0.0` on this machine, and export MLFLOW_TRACKING_URI=http://{HOST}:5000"
DRY_RUN = """\
Building DAG of jobs...
rule project:
    output: results/projector
    wildcards: key=d8219321130b
    threads: 16
    resources: tmpdir=/tmp, gres=gpu:h100:8, nodes=2, slurm_partition=gpu,small, slurm_account=lab, \
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
        ("executor: [", "slurm/profile.yaml: line 1 is not valid YAML"),
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
        profile.Request("project", "gpu,small", 2, 8, "h100", 16, 400000, 1440, "lab", ""),
        profile.Request("score", "", 1, 0, "", 1, 8000, 60, "", ""),
        profile.Request("predict", "", 1, 4, "a100", 1, 8000, 60, "", "long"),
    ]
    assert {request.qos for request in everyones} == {"short"}
    assert commands[0][1:8] == ("-m", "snakemake", "--profile", "slurm", "--configfile", "a.yaml", "b.yaml")


def test_python(monkeypatch):
    assert str(machine.check_python()) == f"ok       python      {platform.python_version()}"
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
    wanted[:] = ["pyyaml==1.0", 'deepspeed==0.19.8; extra == "gpu"']
    found = importlib.metadata.version("pyyaml")
    assert str(packages.check_packages()) == (
        f"warning  packages    not as pinned: pyyaml {found} (pinned: 1.0); pip install -c constraints.txt -e ."
    )


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.chdir(ROOT)
    return {scale: Suite.load(("config/config.yaml", *files)) for scale, files in SCALES.items()}


SCALES = {"mini": (), "paper": ("config/paper.yaml",)}


def test_data_that_is_missing(suite, here):
    assert str(check_data([suite["mini"].run("parrot")])) == (
        "failed   data        missing: workflow/resources/mini/backbones/clip/config.json (mini_clip), "
        "workflow/resources/mini/backbones/qwen/config.json (mini_qwen); put them there, or name others in the config"
    )
    for name in ("clip", "qwen"):
        folder = here / "workflow/resources/mini/backbones" / name
        folder.mkdir(parents=True)
        (folder / "config.json").touch()
    assert str(check_data([suite["mini"].run("parrot")])) == (
        "ok       data        17 data sets, backbones and benchmarks, some of which the first run makes"
    )


def test_data_to_download(suite, here, monkeypatch):
    run = suite["paper"].run("qwen2_vl")
    model = f"{run.asked.path}/config.json ({run.asked.path})"
    benchmarks = {f"{entry.folder}/{file}" for entry in run.benchmarks for file in entry.files.values()}
    for file in benchmarks:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    assert str(check_data([run])) == (
        f"warning  data        to be downloaded: {model}; "
        "get them with `parrot fetch`, on a machine with network: compute nodes never download"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert str(check_data([run])) == (
        f"failed   data        to be downloaded: {model}, but HF_HUB_OFFLINE is set; "
        "unset it; compute nodes never download, whatever it is"
    )


def test_store_in_a_file(here):
    uri = f"sqlite:///{here}/mlflow.db"
    assert str(storage.check_store(uri, elsewhere=False)) == (
        f"ok       mlflow      {here}/mlflow.db, made by the first run"
    )
    with sqlite3.connect(here / "mlflow.db") as database:
        database.execute("create table experiments (name text)")
    assert str(storage.check_store(uri, elsewhere=False)) == f"ok       mlflow      {here}/mlflow.db"
    assert str(storage.check_store(uri, elsewhere=True)) == (
        f"warning  mlflow      {here}/mlflow.db: on this machine's own disk, where other nodes log nothing; "
        f"curves come when a run is finished; to see them live, {SERVER}"
    )


def test_file_that_is_no_store(here):
    (here / "mlflow.db").write_text("no database")
    assert str(storage.check_store(f"sqlite:///{here}/mlflow.db", elsewhere=False)) == (
        f"failed   mlflow      {here}/mlflow.db: not a store of MLflow's: file is not a database; move it away"
    )
    assert str(storage.check_store(f"sqlite:///{here}/none/mlflow.db", elsewhere=False)) == (
        f"failed   mlflow      {here}/none/mlflow.db: its folder cannot be written to; set MLFLOW_TRACKING_URI"
    )


def test_store_in_a_file_on_a_network(here, monkeypatch):
    monkeypatch.setattr(storage, "network_file_system", lambda path: "nfs4")
    assert str(storage.check_store(f"sqlite:///{here}/mlflow.db", elsewhere=True)) == (
        f"failed   mlflow      {here}/mlflow.db: SQLite on nfs4, where several writers break it; {SERVER}"
    )


def test_server_that_only_this_machine_finds():
    assert str(storage.check_store("http://me:secret@localhost:5050", elsewhere=True)) == (
        "failed   mlflow      http://localhost:5050: other nodes find nothing at localhost; "
        f"name this machine: MLFLOW_TRACKING_URI=http://{HOST}:5050"
    )


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (200, "ok       mlflow      {} answers"),
        (
            401,
            "warning  mlflow      {} asks who you are; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (404, "failed   mlflow      {}: HTTP Error 404: Not Found; is it MLflow's server that answers there?"),
    ],
)
def test_server(code, line):
    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.handle_request, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    assert str(storage.check_store(uri, elsewhere=False)) == line.format(uri)
    server.server_close()


def test_server_that_does_not_answer():
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    uri = f"http://127.0.0.1:{server.server_port}"
    assert str(storage.check_store(uri, elsewhere=False)) == (
        f"failed   mlflow      {uri} does not answer: [Errno 111] Connection refused; start the server"
    )


def test_store_of_another_kind():
    assert str(storage.check_store("postgresql://me:secret@db/mlflow", elsewhere=True)) == (
        "warning  mlflow      postgresql://db/mlflow: cannot be checked, and jobs do not log to it; "
        "set MLFLOW_TRACKING_URI to a server's http address or to sqlite:///PATH"
    )
