"""Import the records of training and scoring into MLflow; importing again changes nothing.

Each named run has one MLflow run per scale and seed, with a child for its tuning and one for each benchmark. Stage 1,
which runs share, has its own run, to which they refer by the tag ``stage1_key``. The tag ``parrot.id`` identifies a
run, and ``parrot.digest`` its imported content, so that unchanged records are skipped. A run that
`parrot.tracking.live` filled during training is completed and keeps its id. Nothing else reads MLflow, and an
unreachable store never stops anything.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from parrot.errors import UserError
from parrot.io.web import shown, without_secrets
from parrot.tracking.identity import TrackedRun
from parrot.tracking.records import plan_run, plan_stage1
from parrot.tracking.store import connect, sqlite_file, store_uri

UI = "http://127.0.0.1:5000"  # where `mlflow ui` serves


def init_store() -> str | None:
    """Create the store and its experiment if missing; return the experiment's id, or None for an unreachable store."""
    uri = store_uri()
    with _warning_only(uri):
        return connect(uri).experiment
    return None


def import_runs(runs: Sequence[TrackedRun], results: Path, report: Path | None = None) -> bool:
    """Import runs from ``results/{run}`` and ``results/align/{key}``; return True if the store accepted them.

    `report` is the folder of tables, figures and page that every run gets as artefacts. An unreachable store gives a
    one-line warning.

    Raises:
        UserError: a record is missing or malformed.
    """
    uri = store_uri()
    plans = [plan for run in runs for plan in (plan_stage1(run, results), plan_run(run, results, report))]
    with _warning_only(uri):
        store = connect(uri)
        for plan in plans:
            if plan is not None:
                # Concurrent jobs may import the same run, or runs that share stage 1; only one may create it.
                with _locked(plan.artefacts[""][0]):
                    store.put(plan)
        page = store.show_differences()
        server = shown(uri).rstrip("/") if uri.startswith("http") else f"`make ui`, then {UI}"
        names = ", ".join(run.name for run in runs)
        print(f"parrot: MLflow has {names}; where they differ: {server}{page}", file=sys.stderr)
        return True
    return False


@contextmanager
def _warning_only(uri: str) -> Iterator[None]:
    """Turn any failure of the store into one line on stderr; UserErrors, which concern our files, pass."""
    try:
        yield
    except UserError:
        raise
    # The store may fail in any way that a server, a database or a file system can.
    except Exception as error:
        message = without_secrets(" ".join(str(error).split()), uri)[:200]
        remedy = _remedy(uri, message)
        print(f"parrot: warning: MLflow at {shown(uri)} accepted nothing: {message}; {remedy}", file=sys.stderr)


def _remedy(uri: str, message: str) -> str:
    """Return how to import into a store that failed with `message`."""
    file = sqlite_file(uri)
    damaged = any(text in message for text in ("file is not a database", "database disk image is malformed"))
    if file is not None and os.path.lexists(file) and (damaged or not file.is_file()):
        return f"move {file} away, and `parrot track import` rebuilds it"
    return "`parrot track` imports later"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Open for writing, since a network file system locks nothing else.
    with open(path, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
