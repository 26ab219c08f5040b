"""Send a growing record to MLflow: ``python -m parrot.tracking.live IDENTITY FOLDER``, next to rank 0.

`parrot.train.live` starts it as a separate process, so that neither importing mlflow nor a server that hangs delays
the training. Standard input reports the end of the training: ``finished OUTPUT`` or ``stopped``; if it closes without
either, the training died.

MLflow cannot delete points, but a killed training repeats the steps after its latest checkpoint, with other times and,
on a GPU, other losses. So the training's own run gets a step only when a checkpoint holds it, and each step is in its
curve once. A child run named "live" gets every step immediately, is replaced when steps are repeated, and is deleted
when the training has finished.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parrot.io.files import complete_lines, network_file_system, parse_rows, read_object
from parrot.io.web import shown, without_secrets
from parrot.tracking.identity import TrainingId, training_id
from parrot.tracking.store import DesiredRun, Point, Store, connect, points, store_uri
from parrot.tracking.training import plan_training, system_prefix
from parrot.train.checkpoints import latest_complete, step_of

SECONDS_BETWEEN_SENDS, LONGEST_PAUSE = 5.0, 60.0

Row = dict[str, Any]


class Live:
    """The MLflow run of one training whose record in `folder` grows."""

    def __init__(self, identity: TrainingId, folder: Path, uri: str):
        self.identity = identity
        self.folder = folder
        self.uri = uri
        self.status = "RUNNING"
        self.started = round(1000 * time.time())
        self._store: Store | None = None  # None: its content is not known

    def ended(self, message: str) -> None:
        """Record the end of the training, as `message` reports it; later calls of `send` close the runs."""
        if message.startswith("finished "):
            self.status, self.folder = "FINISHED", Path(message.removeprefix("finished "))
        else:
            self.status = "KILLED" if message == "stopped" else "FAILED"

    def send(self) -> None:
        """Send the part of the record that the store lacks; after any error the next call compares again."""
        store, self._store = self._store, None
        if store is None:
            store = self._open()
        else:
            kept, every = self._grown()
            store.log(self._run, kept)
            store.log(self._tail, every)
        if self.status != "RUNNING":
            self._close(store)
        self._store = store

    def _open(self) -> Store:
        store = connect(self.uri)
        self._offsets: dict[str, int] = {}
        self._ahead: list[Row] = []
        kept, every = self._grown()
        provenance = read_object(self.folder / "provenance.json")
        complete = plan_training(self.identity, provenance, kept, self.started)
        every = [] if self.status == "FINISHED" else every
        tail = DesiredRun(
            f"{complete.id}/live", f"{complete.name}, live", {}, every, complete.tags, {}, self.started, self.started
        )
        parent_id = self.identity.parent
        present = store.present(parent_id or complete.id)
        self._parent = None
        if parent_id is not None:
            tags = complete.tags
            parent = DesiredRun(parent_id, tags["run"], {}, [], tags, {}, self.started, self.started)
            found = present.get(parent_id)
            self._parent = store.upsert(parent, None, None) if found is None else found.info.run_id
        self._run = store.upsert(complete, present.get(complete.id), self._parent)
        self._tail = store.upsert(tail, present.get(tail.id), self._run)
        for earlier in present.values():
            if earlier.info.run_id in self._runs() and earlier.info.status != self.status:
                store.client.update_run(earlier.info.run_id, status="RUNNING")
        return store

    def _close(self, store: Store) -> None:
        if self.status == "FINISHED":
            # The parent run is finished when its benchmarks are imported.
            store.client.set_terminated(self._run, self.status)
            store.client.delete_run(self._tail)
            return
        for run in self._runs():
            store.client.set_terminated(run, self.status)

    def _runs(self) -> list[str]:
        return [run for run in (self._parent, self._run, self._tail) if run is not None]

    def _grown(self) -> tuple[list[Point], list[Point]]:
        """Return the points since the last call: those that a checkpoint holds, and all of them."""
        rows = self._rows(self.folder / "metrics.jsonl")
        checkpoint = latest_complete(self.folder)
        last = math.inf if self.status == "FINISHED" else step_of(checkpoint) if checkpoint else 0
        waiting = self._ahead + rows
        self._ahead = [row for row in waiting if row["step"] > last]
        kept = points(row for row in waiting if row["step"] <= last)
        for path in sorted(self.folder.glob("system-*.jsonl")):
            kept += points(self._rows(path), system_prefix(path))
        return kept, points(rows)

    def _rows(self, path: Path) -> list[Row]:
        if not path.is_file():
            return []
        with open(path, "rb") as file:
            file.seek(self._offsets.get(path.name, 0))
            lines = complete_lines(file.read())
        self._offsets[path.name] = self._offsets.get(path.name, 0) + sum(map(len, lines))
        return parse_rows(lines)


def follow(live: Live, message: Callable[[float], str | None], seconds: float = SECONDS_BETWEEN_SENDS) -> None:
    """Send every `seconds` until `message`, which waits that long, returns how the training ended.

    One line reports that the store is unreachable, and one that it is back; in between the pauses double.
    """
    where, away, pause = shown(live.uri), False, seconds
    while True:
        end = message(pause)
        if end is not None:
            live.ended(end)
        try:
            live.send()
        # The store may fail in any way that a server, a database or a file system can.
        except Exception as error:
            if not away:
                reason = without_secrets(" ".join(str(error).split()), live.uri)[:200]
                _print(
                    f"warning: MLflow at {where} accepts nothing: {reason}; training continues, the rest is sent later"
                )
            away, pause = True, min(2 * pause, LONGEST_PAUSE)
        else:
            if away:
                _print(f"MLflow at {where} is back and has the complete record")
            away, pause = False, seconds
        if end is not None:
            return


def store_of_jobs() -> str | None:
    """Return the store that jobs write to: a server, or an existing SQLite file on a local file system, else None."""
    uri = store_uri()
    if uri.startswith(("http://", "https://")):
        return uri
    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or not path.is_file():
        return None
    network = network_file_system(path)
    if network is not None:
        _print(
            f"warning: {path} is SQLite on {network}, where concurrent writers break it; `parrot track` imports later"
        )
        return None
    return uri


def _print(line: str) -> None:
    print(f"parrot: {line}", file=sys.stderr, flush=True)


def _message(seconds: float) -> str | None:
    """Return the line that arrives within `seconds`, "" for a closed input; None if nothing arrives."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return sys.stdin.readline().strip() if ready else None


def main() -> None:
    """Send the record until the training ends."""
    # Signals reach every process of a job, and this one ends after the training.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    uri = store_of_jobs()
    if uri is None:
        return
    # A short timeout for a request that hangs, since the next one tries again.
    os.environ |= {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    follow(Live(training_id(sys.argv[1]), Path(sys.argv[2]), uri), _message)


if __name__ == "__main__":
    main()
