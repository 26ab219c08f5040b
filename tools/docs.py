"""`make docs`: the images under docs/, from the results and the store of the demo.

Needs `apt-get install chromium graphviz`; the tests never write there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from parrot.config.suite import Suite
from parrot.errors import UserError, in_one_line
from parrot.io.files import atomic_path
from parrot.tracking.store import EXPERIMENT
from tools.browser import screenshot

DOCS = Path("docs")
SECONDS_TO_START = 180
# MLflow's window, and how much of it is the comparison rather than the assistant's panel beside it.
WINDOW, SHOWN = (1600, 1250), 0.74


@contextmanager
def mlflow_server(store: str, log: Path) -> Iterator[str]:
    """Serve the MLflow UI of `store` on a free local port while the context lasts; yields its address.

    UserError, with the log's place, where it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(log, "w", encoding="utf-8") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, server, log)
            yield address
        finally:
            server.terminate()
            server.wait()


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < give_up and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise UserError(f"{log}: the MLflow server did not start")


def comparison(address: str, store: str, names: Sequence[str]) -> str:
    """Return the address of MLflow's comparison of the named runs, children left out.

    Raises:
        UserError: a run is not imported.
    """
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    parents = {run.data.tags["run"]: run for run in found if "mlflow.parentRunId" not in run.data.tags}
    absent = [name for name in names if name not in parents]
    if absent:
        raise UserError(f"{store}: no run {absent[0]}; `snakemake all` imports the report's runs")
    runs = urllib.parse.quote(json.dumps([parents[name].info.run_id for name in names]))
    experiments = urllib.parse.quote(json.dumps([parents[name].info.experiment_id for name in names[:1]]))
    return f"{address}/#/compare-runs?runs={runs}&experiments={experiments}"


def _mlflow(names: Sequence[str]) -> None:
    store = f"sqlite:///{Path('mlflow.db').resolve()}"
    Path("logs").mkdir(exist_ok=True)
    with mlflow_server(store, Path("logs/mlflow.log")) as address, atomic_path(DOCS / "mlflow.png") as partial:
        screenshot(comparison(address, store, names), partial, *WINDOW)
        with Image.open(partial) as image:
            image.crop((0, 0, round(SHOWN * image.width), image.height)).save(partial)


def _page(page: Path, name: str, height: int, view: str = "") -> None:
    if not page.is_file():
        raise UserError(f"{page}: no such file; `snakemake all` makes it")
    with atomic_path(DOCS / name) as partial:
        screenshot(page.resolve().as_uri() + view, partial, 1200, height)


def _report(results: Path, run: str) -> None:
    _page(results / "report.html", "report.png", 1500)
    _page(results / run / "predictions.html", "predictions.png", 1000, "#language=ar&control=none")
    for figure in sorted((results / "figures").glob("fig7?.png")):
        with atomic_path(DOCS / figure.name) as partial:
            shutil.copyfile(figure, partial)


def _dag() -> None:
    if shutil.which("dot") is None:
        raise UserError("Graphviz is not installed: apt-get install graphviz")
    graph = subprocess.run(
        ["snakemake", "--rulegraph", "--forceall", "all"], capture_output=True, text=True, check=True
    )
    with atomic_path(DOCS / "dag.svg") as partial:
        subprocess.run(["dot", "-Tsvg", "-o", str(partial)], input=graph.stdout, text=True, check=True)


def main() -> None:
    """Make every image anew; UserError where something that it needs is missing."""
    suite = Suite.load()
    _dag()
    _report(Path("results") / suite.config.scale, suite.config.report.runs[0])
    _mlflow(suite.config.report.runs)


if __name__ == "__main__":
    with in_one_line():
        main()
