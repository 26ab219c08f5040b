"""Synchronise an MLflow experiment with the records: extend runs if possible, else replace them.

MLflow cannot delete points or parameters. A run whose content is part of the desired one is continued and keeps its
id; any other is deleted and replaced.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import sqlite3
import sys
import urllib.error
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from parrot.config.staleness import key
from parrot.errors import UserError
from parrot.io.digests import file_sha256
from parrot.io.files import real_path
from parrot.io.web import open_address

# mlflow takes seconds to import and is not needed to import this module.
if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput
    from mlflow.entities import Run as MlflowRun

T = TypeVar("T")

EXPERIMENT, VIEW = "parrot", "differences"
# MLflow's limits: points, parameters and tags per request, characters per parameter.
POINTS_PER_BATCH, PARAMS_PER_BATCH, TAGS_PER_BATCH, PARAM_LENGTH, NAME_LENGTH = 1000, 100, 100, 6000, 250
SECONDS_TO_ANSWER = 3
_ESCAPED = re.compile(":([0-9a-f]*):")

Point = tuple[str, float, int, int]
"""A metric's key, value, step and time in milliseconds."""


@dataclass
class DesiredRun:
    """An MLflow run as it should be."""

    id: str
    name: str
    params: dict[str, str]
    metrics: list[Point]
    tags: dict[str, str]
    data_pins: dict[str, str]
    start: int
    end: int
    artefacts: dict[str, list[Path]] = field(default_factory=dict)  # by folder in the run
    children: list[DesiredRun] = field(default_factory=list)

    def check(self) -> None:
        """Check the lengths of the names of the run and its children.

        Raises:
            UserError: a name is too long for MLflow.
        """
        for name in (*self.params, *self.tags, *(point[0] for point in self.metrics)):
            if len(name) > NAME_LENGTH:
                raise UserError(
                    f"{self.id}: MLflow allows names of at most {NAME_LENGTH} characters, found {len(name)}: "
                    f"{name[:60]}..."
                )
        for child in self.children:
            child.check()

    @property
    def digest(self) -> str:
        """A digest of everything except the artefacts and the children."""
        return key([self.name, self.params, self.metrics, self.tags, self.data_pins])


def store_uri() -> str:
    """Return MLFLOW_TRACKING_URI, else ``mlflow.db`` in the working folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{os.path.realpath('mlflow.db')}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite store; None for another kind of store."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:///") else None


def segment(text: str) -> str:
    """Escape `text` for use between the slashes of a name: a character that MLflow rejects becomes ``:28:``.

    The number is its code point; `original` reverses it.
    """
    if re.fullmatch(r"[\w.\- :]+", text) and text.strip(".") and not _ESCAPED.search(text):
        return text
    refused = r"[^\w.\- ]" if text.strip(".") else "[.]"  # MLflow would resolve . and ..
    return re.sub(refused, lambda match: f":{ord(match[0]):x}:", text) or "::"


def original(segment: str) -> str:
    """Return the text that `segment` escaped."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else "", segment)


def points(rows: Iterable[Mapping[str, Any]], prefix: str = "") -> list[Point]:
    """Return the points of a record's rows (step, time in seconds); infinities become the largest floats."""
    return [
        (prefix + name, _finite(float(value)), int(row["step"]), milliseconds(row))
        for row in rows
        for name, value in row.items()
        if name not in ("step", "time")
    ]


def milliseconds(row: Mapping[str, Any]) -> int:
    """Return the time of a row in milliseconds."""
    return round(1000 * float(row.get("time", 0)))


def _finite(value: float) -> float:
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def connect(uri: str) -> Store:
    """Connect to the experiment in the store at `uri`, which one process at a time creates if missing.

    Raises:
        ConnectionError: a server does not answer within seconds. The store may raise any other error.
    """
    # Read when mlflow is imported: no telemetry, and no minutes of retries.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if uri.startswith("http"):
        try:
            open_address(f"{uri.rstrip('/')}/health", SECONDS_TO_ANSWER)
        except urllib.error.HTTPError:
            pass  # It answers; the first request shows whether it grants access.
        except (OSError, ValueError) as error:
            raise ConnectionError(str(getattr(error, "reason", error))) from None
    from mlflow import MlflowClient

    # Silence the steps of a new database's migrations, and the retries of requests.
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR if noisy == "urllib3" else logging.WARNING)
    with _alone(uri):
        if (database := sqlite_file(uri)) is not None:
            _move_artefacts(database)
        client = MlflowClient(uri)
        return Store(client, _experiment(client, uri))


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other processes from opening the same SQLite file: several that make it together crash each other."""
    file = sqlite_file(uri)
    if file is None:
        yield
        return
    with open(file.with_name(f".{file.name}.lock"), "a", encoding="utf-8") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _move_artefacts(database: Path) -> None:
    """Update the artefacts' location in a moved `database`, since MLflow stores absolute paths."""
    if not os.path.lexists(database):
        return
    if not database.is_file():
        raise ConnectionError(f"{database} is not a file")  # MLflow would retry for a minute
    here = _artefacts_of(database)
    with closing(sqlite3.connect(database)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", [EXPERIMENT]).fetchone()
        if found is None or found[0] == here:
            return
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", [here, EXPERIMENT])
        connection.execute(
            "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
            [here, len(found[0]) + 1, len(found[0]) + 1, f"{found[0]}/"],
        )


def _artefacts_of(database: Path) -> str:
    return (real_path(database).parent / "mlruns").as_uri()


def _experiment(client: MlflowClient, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        # MLflow's own default depends on the folder in which its command is started.
        location = _artefacts_of(database) if (database := sqlite_file(uri)) is not None else None
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=location)
        except MlflowException:
            # Another job was faster.
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return found.experiment_id


class Store:
    """The runs of one experiment, found by the tag ``parrot.id``."""

    def __init__(self, client: MlflowClient, experiment: str):
        self.client = client
        self.experiment = experiment
        self._created: list[str] = []

    def present(self, identity: str) -> dict[str, MlflowRun]:
        """Return the runs of `identity` and its parts by id; of two with the same id the older one is kept."""
        wanted = f"tags.`parrot.id` LIKE '{identity}%'"
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        runs: dict[str, MlflowRun] = {}
        for run in self.client.search_runs([self.experiment], wanted, max_results=1000, order_by=order):
            name = run.data.tags["parrot.id"]
            if name != identity and not name.startswith(f"{identity}/"):
                continue
            if runs.setdefault(name, run) is not run:
                self.client.delete_run(run.info.run_id)
        return runs

    def put(self, planned: DesiredRun) -> None:
        """Make the store's run and its children equal to `planned`; unchanged ones are skipped.

        If the store fails meanwhile, created runs are deleted, so that none stays incomplete.

        Raises:
            UserError: MLflow would reject a name; nothing has been sent.
        """
        planned.check()
        present, self._created = self.present(planned.id), []
        try:
            run = self._put(planned, present.pop(planned.id, None), parent=None)
            for child in planned.children:
                self._put(child, present.pop(child.id, None), parent=run)
        except Exception:
            for created in self._created:
                with suppress(Exception):  # report the first failure
                    self.client.delete_run(created)
            raise
        for stale in present.values():
            self.client.delete_run(stale.info.run_id)

    def show_differences(self) -> str:
        """Create a view of the parameters in which named runs differ; return its path on a server.

        A shared view is a tag of the experiment; MLflow has no request for it.
        """
        runs = self.client.search_runs([self.experiment], max_results=1000)
        params = [run.data.params for run in runs if "mlflow.note.content" in run.data.tags]
        names = sorted({name for each in params for name in each})
        differing = [name for name in names if len({each.get(name) for each in params}) > 1]
        columns = [f"params.`{name}`" for name in differing]
        view = {"orderByKey": "attributes.start_time", "orderByAsc": False, "selectedColumns": columns}
        self.client.set_experiment_tag(self.experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(view))
        return f"/#/experiments/{self.experiment}/runs?viewStateShareKey={VIEW}"

    def upsert(self, planned: DesiredRun, present: MlflowRun | None, parent: str | None) -> str:
        """Complete `present`, or a new run if it holds more than `planned`; return the run's id."""
        held = set() if present is None else self._held(present)
        if present is not None and not self._continues(planned, present, held):
            self.client.delete_run(present.info.run_id)
            present, held = None, set()
        tags = planned.tags | ({"mlflow.parentRunId": parent} if parent else {})
        if present is None:
            tags |= {"parrot.id": planned.id}
            present = self.client.create_run(self.experiment, planned.start, tags, planned.name)
            self._created.append(present.info.run_id)
        run = present.info.run_id
        self._describe(present, planned, tags)
        self.log(run, [point for point in planned.metrics if _comparable(point) not in held])
        return run

    def log(self, run: str, metrics: Sequence[Point]) -> None:
        """Add points to a run."""
        from mlflow.entities import Metric

        for many in _batches(metrics, POINTS_PER_BATCH):
            batch = [Metric(name, value, time, step) for name, value, step, time in many]
            self.client.log_batch(run, metrics=batch)

    def _held(self, run: MlflowRun) -> set[tuple[str, str, int, int]]:
        found = (point for name in run.data.metrics for point in self.client.get_metric_history(run.info.run_id, name))
        return {_comparable((point.key, point.value, point.step, point.timestamp)) for point in found}

    def _continues(self, planned: DesiredRun, present: MlflowRun, held: set[tuple[str, str, int, int]]) -> bool:
        params = {name: value[:PARAM_LENGTH] for name, value in planned.params.items()}
        same = all(params.get(name) == value for name, value in present.data.params.items())
        return same and held <= set(map(_comparable, planned.metrics))

    def _describe(self, present: MlflowRun, planned: DesiredRun, tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        run, new = present.info.run_id, planned.params.keys() - present.data.params.keys()
        params = [Param(name, planned.params[name][:PARAM_LENGTH]) for name in sorted(new)]
        for few in _batches(params, PARAMS_PER_BATCH):
            self.client.log_batch(run, params=few)
        changed = [RunTag(name, value) for name, value in tags.items() if present.data.tags.get(name) != value]
        for few_tags in _batches(changed, TAGS_PER_BATCH):
            self.client.log_batch(run, tags=few_tags)
        inputs = present.inputs.dataset_inputs if present.inputs else []
        known = {each.dataset.name: each.dataset.digest for each in inputs}
        pins = {name: md5 for name, md5 in planned.data_pins.items() if known.get(name) != md5[:36]}
        if pins:
            self.client.log_inputs(run, _datasets(pins))

    def _put(self, planned: DesiredRun, present: MlflowRun | None, parent: str | None) -> str:
        digest = key([planned.digest, parent])
        tags = {} if present is None else present.data.tags
        if present is not None and tags.get("parrot.digest") == digest:
            run = present.info.run_id
        else:
            run = self.upsert(planned, present, parent)
            self.client.set_terminated(run, end_time=planned.end)
            # Last, so that an interrupted import is repeated.
            self.client.set_tag(run, "parrot.digest", digest)
            if present is None or run != present.info.run_id:
                tags = {}
        self._put_artefacts(run, planned, tags)
        return run

    def _put_artefacts(self, run: str, planned: DesiredRun, tags: Mapping[str, str]) -> None:
        files = {str(file): file_sha256(file) for some in planned.artefacts.values() for file in some}
        digest = key(files)
        if not files or tags.get("parrot.artefacts") == digest:
            return
        for folder, some in planned.artefacts.items():
            for file in some:
                if file.name == "report.html":
                    page = _without_neighbours(file.read_text(encoding="utf-8"))
                    self.client.log_text(run, page, f"{folder}/{file.name}".lstrip("/"))
                else:
                    self.client.log_artifact(run, str(file), folder or None)
        self.client.set_tag(run, "parrot.artefacts", digest)


def _comparable(point: Point) -> tuple[str, str, int, int]:
    """Return a point that can be compared: floats as exact text, so that NaN equals itself."""
    name, value, step, time = point
    return name, repr(float(value)), step, time


def _without_neighbours(page: str) -> str:
    """Return a report's page without links to the runs' prediction pages, which a store does not keep next to it."""
    note = "predictions.html among each run's artefacts shows its predictions."
    return re.sub(r'(<p id="predictions">).*?(</p>)', rf"\1{note}\2", page, count=1)


def _datasets(pins: Mapping[str, str]) -> list[DatasetInput]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    context = [InputTag("mlflow.data.context", "training")]
    return [
        DatasetInput(Dataset(name=name, digest=md5[:36], source_type="dvc", source=f"{name} {md5}"), context)
        for name, md5 in pins.items()
    ]


def _batches(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
