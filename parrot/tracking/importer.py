"""MLflow as a view of the records: what training and scoring wrote is imported, as often as one likes.

One MLflow run stands for each named run at one scale and seed, with a child for its tuning and one for each benchmark;
stage 1, which runs share, is a run of its own that they point to by the tag ``stage1_key``. Runs are found again by the
tag ``parrot.id``; ``parrot.digest`` says what was imported, so that an unchanged record is left alone. A training's run
that `parrot.tracking.live` filled while it went on is completed, and keeps its id. Nothing else reads MLflow, and a
store that does not answer never stops anything.
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
    """Make the store and its experiment where they are missing; the experiment's id, or None where no store answers."""
    uri = store_uri()
    with _warning_only(uri):
        return connect(uri).experiment
    return None


def import_runs(runs: Sequence[TrackedRun], results: Path, report: Path | None = None) -> bool:
    """Import runs with what lies under ``results/{run}`` and ``results/align/{key}``; whether a store took them.

    `report` is the folder of tables, figures and page that every run gets as artefacts. A store that does not answer
    costs one line of warning.

    Raises:
        UserError: a record is missing or malformed.
    """
    uri = store_uri()
    plans = [plan for run in runs for plan in (plan_stage1(run, results), plan_run(run, results, report))]
    with _warning_only(uri):
        store = connect(uri)
        for plan in plans:
            if plan is not None:
                # Jobs side by side may import the same run, or runs that share stage 1, and only one may create it.
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
    """Turn any failure of the store into one line on stderr; UserErrors, which are about our files, pass."""
    try:
        yield
    except UserError:
        raise
    # The store may fail in any way that a server, a database or a file system can.
    except Exception as error:
        told = without_secrets(" ".join(str(error).split()), uri)[:200]
        print(f"parrot: warning: MLflow at {shown(uri)} took nothing: {told}; {_cure(uri, told)}", file=sys.stderr)


def _cure(uri: str, told: str) -> str:
    """How a store that failed and `told` why gets what it did not take."""
    file = sqlite_file(uri)
    damaged = any(word in told for word in ("file is not a database", "database disk image is malformed"))
    if file is not None and os.path.lexists(file) and (damaged or not file.is_file()):
        return f"move {file} away, and `parrot track import` makes it anew"
    return "`parrot track` imports later"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Open for writing, since a network file system locks nothing else.
    with open(path, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
