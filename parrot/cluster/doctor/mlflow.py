"""Check that MLflow's store can be reached, here and from jobs on other nodes."""

from __future__ import annotations

import os
import sqlite3
import urllib.error
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from parrot.cluster.doctor.finding import Finding, failed, ok, warning
from parrot.io.files import network_file_system, real_path
from parrot.io.web import check_address, identity, open_address, shown

SECONDS_TO_ANSWER = 5
SERVER = "start a server as in docs/cluster.md, and name it in MLFLOW_TRACKING_URI"


def check_store(uri: str, elsewhere: bool) -> Finding:
    """Check MLflow's store at `uri`, also for jobs, which run `elsewhere` or on this machine."""
    if uri.startswith("sqlite:///"):
        return _check_sqlite(Path(uri.removeprefix("sqlite:///")), elsewhere)
    if uri.startswith(("http://", "https://")):
        try:
            return _check_server(check_address(uri), elsewhere)
        except ValueError as error:
            return failed("mlflow", f"{shown(uri)}: {error}", "set MLFLOW_TRACKING_URI to a server's address")
    advice = "set MLFLOW_TRACKING_URI to a server's http address or to sqlite:///PATH"
    return warning("mlflow", f"{shown(uri)}: cannot be checked, and jobs do not log to it", advice)


def _check_sqlite(path: Path, elsewhere: bool) -> Finding:
    network = network_file_system(path)
    if network is not None:
        found = f"{path}: SQLite on {network}, where several writers break it: jobs leave it alone"
        return warning("mlflow", found, f"runs appear in it when the workflow ends; for live curves, {SERVER}")
    if path.exists():
        try:
            with closing(sqlite3.connect(f"{real_path(path).as_uri()}?mode=ro", uri=True)) as database:
                database.execute("select count(*) from experiments").fetchone()
        except sqlite3.Error as error:
            return failed("mlflow", f"{path}: not an MLflow store: {error}", "move it away")
    elif not os.access(path.parent, os.W_OK):
        return failed("mlflow", f"{path}: its folder cannot be written to", "set MLFLOW_TRACKING_URI")
    if elsewhere:
        found = f"{path}: on this machine's own disk, which other nodes cannot write to"
        return warning("mlflow", found, f"curves appear when a run is finished; for live curves, {SERVER}")
    return ok("mlflow", f"{path}" + ("" if path.exists() else ", created by the first run"))


def _check_server(uri: str, elsewhere: bool) -> Finding:
    where, host = shown(uri), urlsplit(uri).hostname or ""
    if elsewhere and (host in ("localhost", "::1", "0.0.0.0") or host.startswith("127.")):
        found = f"{where}: other nodes cannot reach it at {host}"
        advice = f"name this machine: MLFLOW_TRACKING_URI=http://{os.uname().nodename}:{urlsplit(uri).port or 5000}"
        return failed("mlflow", found, advice)
    # A server's health check does not cover refused hosts and users.
    search = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        given = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
        open_address(search, SECONDS_TO_ANSWER, headers=identity(uri, *given))
    except urllib.error.HTTPError as error:
        advice = {
            401: "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            403: f"start it with {urlsplit(uri).netloc.rpartition('@')[2]} among --allowed-hosts",
        }.get(error.code, "check that this address is an MLflow server's")
        return failed("mlflow", f"{where}: {error}", advice)
    except (OSError, ValueError) as error:
        advice = "start it with a host name and port that jobs can reach"
        return failed("mlflow", f"{where} does not respond: {getattr(error, 'reason', error)}", advice)
    return ok("mlflow", f"{where} answers")
