"""MLflow as a view of the records: what training and scoring wrote is imported, as often as one likes.

One MLflow run stands for each named run at one scale and seed, with a child for its tuning and one for each benchmark;
stage 1, which runs share, is a run of its own that they point to by the tag ``stage1_key``. Runs are found again by the
tag ``parrot.id``; ``parrot.digest`` says what was imported, so that an unchanged record is left alone and a changed one
takes the place of the old. Nothing else reads MLflow, and a store that does not answer never stops anything.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from parrot.config import ConfigError
from parrot.digest import file_sha256, key
from parrot.tracked import Planned, TrackedRun, plan_run, plan_stage1

# mlflow takes seconds to import and is not needed to import this module.
if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as MlflowRun

T = TypeVar("T")

EXPERIMENT = "parrot"
# MLflow refuses larger batches.
METRICS_A_BATCH, PARAMS_A_BATCH = 1000, 100
SECONDS_TO_ANSWER = 3


def init_store(uri: str | None = None) -> str | None:
    """Make the store and its experiment where they are missing; the experiment's id, or None where no store answers.

    `uri` is by default MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working folder. Call this before several jobs
    open a fresh SQLite store, which they cannot create together.
    """
    with _warning_only(_uri(uri)):
        return _experiment(_client(_uri(uri)), _uri(uri))
    return None


def import_runs(runs: Sequence[TrackedRun], results: Path, report: Path | None = None, uri: str | None = None) -> bool:
    """Import runs with what lies under ``results/{run}`` and ``results/align/{key}``; whether a store took them.

    `report` is the folder of tables, figures and page that every run gets as artefacts. A store that does not answer
    costs one line of warning.

    Raises:
        ConfigError: a record is missing or malformed.
    """
    plans = [(plan_stage1(run, results), plan_run(run, results, report)) for run in runs]
    with _warning_only(_uri(uri)):
        client = _client(_uri(uri))
        store = _Store(client, _experiment(client, _uri(uri)))
        for stage1, whole in plans:
            if stage1 is not None:
                # Jobs side by side may import runs that share stage 1, and only one of them may create it.
                with _locked(stage1.artefacts[""][0]):
                    store.put(stage1)
            store.put(whole)
        return True
    return False


class _Store:
    """Puts planned runs into one experiment."""

    def __init__(self, client: MlflowClient, experiment: str):
        self._client = client
        self._experiment = experiment

    def put(self, planned: Planned) -> None:
        """Make the store's run and its children equal to `planned`; what is so already is left alone."""
        present = self._present(planned.id)
        run = self._put(planned, present.pop(planned.id, None), parent=None)
        for child in planned.children:
            self._put(child, present.pop(child.id, None), parent=run)
        for stale in present.values():
            self._client.delete_run(stale.info.run_id)

    def _present(self, identity: str) -> dict[str, MlflowRun]:
        """The runs that stand for `identity` and its parts, by id."""
        found = self._client.search_runs([self._experiment], f"tags.`parrot.id` LIKE '{identity}%'", max_results=1000)
        identities = [(run.data.tags["parrot.id"], run) for run in found]
        return {name: run for name, run in identities if name == identity or name.startswith(f"{identity}/")}

    def _put(self, planned: Planned, present: MlflowRun | None, parent: str | None) -> str:
        digest = key([planned.digest, parent])
        if present is not None and present.data.tags.get("parrot.digest") != digest:
            self._client.delete_run(present.info.run_id)
            present = None
        run = self._create(planned, digest, parent) if present is None else present.info.run_id
        self._put_artefacts(run, planned, {} if present is None else present.data.tags)
        return run

    def _create(self, planned: Planned, digest: str, parent: str | None) -> str:
        from mlflow.entities import Metric, Param

        tags = {"parrot.id": planned.id, **planned.tags} | ({"mlflow.parentRunId": parent} if parent else {})
        run = self._client.create_run(self._experiment, planned.start, tags, planned.name).info.run_id
        params = [Param(name, value) for name, value in planned.params.items()]
        for few in _batches(params, PARAMS_A_BATCH):
            self._client.log_batch(run, params=few)
        metrics = [Metric(name, value, time, step) for name, value, step, time in planned.metrics]
        for many in _batches(metrics, METRICS_A_BATCH):
            self._client.log_batch(run, metrics=many)
        self._client.log_inputs(run, _datasets(planned.data_pins))
        self._client.set_terminated(run, end_time=planned.end)
        # Last, so that a run whose import was interrupted is imported again.
        self._client.set_tag(run, "parrot.digest", digest)
        return run

    def _put_artefacts(self, run: str, planned: Planned, tags: Mapping[str, str]) -> None:
        files = {str(file): file_sha256(file) for some in planned.artefacts.values() for file in some}
        digest = key(files)
        if not files or tags.get("parrot.artefacts") == digest:
            return
        for folder, some in planned.artefacts.items():
            for file in some:
                if file.name == "report.html":
                    page = _without_neighbours(file.read_text(encoding="utf-8"))
                    self._client.log_text(run, page, f"{folder}/{file.name}".lstrip("/"))
                else:
                    self._client.log_artifact(run, str(file), folder or None)
        self._client.set_tag(run, "parrot.artefacts", digest)


def _without_neighbours(page: str) -> str:
    """A report's page without links to the other runs' pages of answers, which do not lie beside it in a store."""
    told = "predictions.html among each run's artefacts holds its answers."
    return re.sub(r'(<p id="answers">).*?(</p>)', rf"\1{told}\2", page, count=1)


def _datasets(pins: Mapping[str, str]) -> list[DatasetInput]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    context = [InputTag("mlflow.data.context", "training")]
    return [
        DatasetInput(Dataset(name=name, digest=md5[:36], source_type="dvc", source=f"{name} {md5}"), context)
        for name, md5 in pins.items()
    ]


def _batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _uri(uri: str | None) -> str:
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def _client(uri: str) -> MlflowClient:
    """A client of the store; ConnectionError where a server does not answer within seconds."""
    # Read when mlflow is imported: no calls home, and no minutes of retries.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if uri.startswith("http"):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=SECONDS_TO_ANSWER)
        except urllib.error.HTTPError:
            pass  # It answers; whether it lets us in, the first request tells.
        except OSError as error:
            raise ConnectionError(str(getattr(error, "reason", error))) from None
    from mlflow import MlflowClient

    # Migrations of a new database are told step by step otherwise.
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(uri)


def _experiment(client: MlflowClient, uri: str) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return found.experiment_id
    # MLflow's own default depends on where its command was started.
    location = Path("mlruns").resolve().as_uri() if uri.startswith("sqlite:") else None
    return client.create_experiment(EXPERIMENT, artifact_location=location)


@contextmanager
def _warning_only(uri: str) -> Iterator[None]:
    """Turn any failure of the store into one line on stderr; ConfigErrors, which are about our files, pass."""
    try:
        yield
    except ConfigError:
        raise
    # The store may fail in any way that a server, a database or a file system can.
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        print(f"parrot: warning: MLflow at {uri} took nothing: {told}; `parrot track` imports later", file=sys.stderr)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
