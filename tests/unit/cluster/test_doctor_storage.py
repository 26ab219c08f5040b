"""`parrot doctor`: data, room on disk and MLflow's store."""

import base64
import os
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from parrot.cluster.doctor import machine, mlflow
from parrot.cluster.doctor.machine import check_data, check_room
from parrot.config.suite import Suite
from parrot.errors import UserError

ROOT = Path(__file__).parents[3]
HOST = os.uname().nodename
SERVER = "start a server as in docs/cluster.md, and name it in MLFLOW_TRACKING_URI"
SCALES = {"mini": (), "paper": ("config/paper.yaml",)}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


@pytest.fixture
def suite(monkeypatch):
    monkeypatch.chdir(ROOT)
    return {scale: Suite.load(("config/config.yaml", *files)) for scale, files in SCALES.items()}


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
        "ok       data        17 data sets, backbones and benchmarks, some of which the first run generates"
    )


def test_data_to_download(suite, here, monkeypatch):
    run = suite["paper"].run("qwen2_vl")
    model = f"{run.pretrained_model.path}/config.json ({run.pretrained_model.path})"
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
        "unset it; compute nodes never download, whatever its value"
    )


def test_room_on_disks(here, monkeypatch):
    other = next(path for path in (Path("/dev/shm"), Path("/run"), Path("/proc")) if differs(path, here))
    (here / "data").symlink_to(other)
    sizes = {"data": 2_500_000_000, "checkpoints": 10**9, "models": 0, "total": 10**16}
    free = {Path("data"): 3 * 10**9, here: 2 * 10**12}
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=free[place]))
    assert [(found.status, found.check, found.found) for found in check_room(sizes)] == [
        ("ok", "disk", "data: 2.5 GB still to be written, 3.0 GB free"),
        ("failed", "disk", "work, results: 10000.0 TB still to be written, 2.0 TB free"),
    ]


def differs(path, other):
    return path.is_dir() and path.stat().st_dev != other.stat().st_dev


def test_room_for_nobody_knows_how_much(here, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=5 * 10**9))
    (found,) = check_room(UserError("wrong"))
    assert (found.status, found.check) == ("warning", "disk")
    assert found.found.startswith(f"5.0 GB free at {here}; ")
    assert found.found.endswith(": wrong")


def test_store_in_a_file(here):
    uri = f"sqlite:///{here}/mlflow.db"
    assert str(mlflow.check_store(uri, elsewhere=False)) == (
        f"ok       mlflow      {here}/mlflow.db, created by the first run"
    )
    with sqlite3.connect(here / "mlflow.db") as database:
        database.execute("create table experiments (name text)")
    assert str(mlflow.check_store(uri, elsewhere=False)) == f"ok       mlflow      {here}/mlflow.db"
    assert str(mlflow.check_store(uri, elsewhere=True)) == (
        f"warning  mlflow      {here}/mlflow.db: on this machine's own disk, which other nodes cannot write to; "
        f"curves appear when a run is finished; for live curves, {SERVER}"
    )


def test_file_that_is_no_store(here):
    (here / "mlflow.db").write_text("no database")
    assert str(mlflow.check_store(f"sqlite:///{here}/mlflow.db", elsewhere=False)) == (
        f"failed   mlflow      {here}/mlflow.db: not an MLflow store: file is not a database; move it away"
    )
    assert str(mlflow.check_store(f"sqlite:///{here}/none/mlflow.db", elsewhere=False)) == (
        f"failed   mlflow      {here}/none/mlflow.db: its folder cannot be written to; set MLFLOW_TRACKING_URI"
    )


def test_store_in_a_file_on_a_network(here, monkeypatch):
    monkeypatch.setattr(mlflow, "network_file_system", lambda path: "nfs4")
    assert str(mlflow.check_store(f"sqlite:///{here}/mlflow.db", elsewhere=True)) == (
        f"warning  mlflow      {here}/mlflow.db: SQLite on nfs4, where several writers break it: jobs leave it alone; "
        f"runs appear in it when the workflow ends; for live curves, {SERVER}"
    )


def test_server_that_only_this_machine_finds():
    assert str(mlflow.check_store("http://me:secret@localhost:5050", elsewhere=True)) == (
        "failed   mlflow      http://localhost:5050: other nodes cannot reach it at localhost; "
        f"name this machine: MLFLOW_TRACKING_URI=http://{HOST}:5050"
    )


@pytest.mark.parametrize(
    ("user", "code", "line"),
    [
        ("me", 200, "ok       mlflow      {} answers"),
        (
            "other",
            401,
            "failed   mlflow      {}: HTTP Error 401: Unauthorized; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        ),
        (
            "me",
            403,
            "failed   mlflow      {}: HTTP Error 403: Forbidden; start it with {} among --allowed-hosts",
        ),
        (
            "me",
            404,
            "failed   mlflow      {}: HTTP Error 404: Not Found; check that this address is an MLflow server's",
        ),
    ],
)
def test_server(monkeypatch, user, code, line):
    expected = "Basic " + base64.b64encode(b"me:secret").decode()

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            right = self.path.startswith("/api/2.0/mlflow/experiments/search")
            known = self.headers.get("Authorization") == expected
            self.send_response(500 if not right else 401 if not known else code)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.handle_request, daemon=True).start()
    where = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    found = mlflow.check_store(f"http://{user}@{where}", elsewhere=False)
    assert str(found) == line.replace("{}", f"http://{where}", 1).replace("{}", where)
    server.server_close()


def test_server_that_does_not_answer():
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    uri = f"http://127.0.0.1:{server.server_port}"
    assert str(mlflow.check_store(uri, elsewhere=False)) == (
        f"failed   mlflow      {uri} does not respond: [Errno 111] Connection refused; "
        "start it with a host name and port that jobs can reach"
    )


def test_store_of_another_kind():
    assert str(mlflow.check_store("postgresql://me:secret@db/mlflow", elsewhere=True)) == (
        "warning  mlflow      postgresql://db/mlflow: cannot be checked, and jobs do not log to it; "
        "set MLFLOW_TRACKING_URI to a server's http address or to sqlite:///PATH"
    )
