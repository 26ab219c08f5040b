"""Checkpoints of a stage: a mark, written last, tells a whole one from one that was cut off or damaged.

The mark holds sizes and digests of all files. The processes take them together when a checkpoint is written, and the
first one compares them when training resumes from it: a second a GiB and thread. A checkpoint also keeps the stage's
record up to its step, so that no damage to the record outlives a restart.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from parrot.config.stages import AlignSettings, TuneSettings
from parrot.config.staleness import key
from parrot.errors import UserError
from parrot.io.digests import file_sha256, read_record, tell, write_record
from parrot.io.files import atomic_write, remove

FORMAT = 1  # of what a checkpoint holds; another number makes earlier ones unknown
COMPLETE = "complete"
METRICS = "metrics.jsonl"
RESHARDED = ("ddp", "fsdp2")  # strategies whose checkpoints any number of processes can load
READERS = 8  # threads that read a checkpoint's files
Identity = list[int | str]  # a file's size and SHA-256
Program = dict[str, int | str]  # a program's `digest`, and the step `from_step` that it trained from
_NAME = re.compile(r"checkpoint-(\d+)")


def folder_name(settings: AlignSettings | TuneSettings, projector: Path | None) -> str:
    """Name the folder of all checkpoints of these settings and, for stage 2, of this `projector`'s weights.

    The code has no part in it: a training of days goes on when its program is corrected, and records both programs.
    """
    name = key([settings.model_dump(mode="json"), FORMAT])
    return name if projector is None else f"{name}-{file_sha256(projector)[:12]}"


def keep_metrics(checkpoint: Path) -> None:
    """Put a copy of the record, which lies beside `checkpoint`, into it."""
    record = checkpoint.with_name(METRICS)
    atomic_write(checkpoint / METRICS, record.read_bytes() if record.is_file() else b"")


def restore_metrics(folder: Path, checkpoint: Path | None) -> None:
    """Set the record in `folder` to what it was at `checkpoint`; to nothing without one."""
    atomic_write(folder / METRICS, (checkpoint / METRICS).read_bytes() if checkpoint else b"")


def identities(checkpoint: Path, names: Iterable[str]) -> dict[str, Identity | None]:
    """Size and SHA-256 of each file of `checkpoint`, by its name; none for what is no file."""
    names = list(names)
    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip(names, pool.map(_identity, [checkpoint / name for name in names]), strict=True))


def mark_complete(
    checkpoint: Path,
    strategy: str,
    processes: int,
    files: Mapping[str, Identity | None],
    code: Sequence[Program] = (),
) -> None:
    """State that the folder `checkpoint` is on the disk with all its `files`, how they are spread, and by what code."""
    mark = {"strategy": strategy, "processes": processes, "files": dict(files), "code": list(code)}
    write_record(checkpoint / COMPLETE, mark)


def programs(checkpoint: Path | None, code: str) -> list[Program]:
    """List the programs of a training that goes on from `checkpoint` with the program of digest `code`.

    A line on stderr says so where the checkpoint is another program's.
    """
    if checkpoint is None:
        return [{"digest": code, "from_step": 0}]
    earlier: list[Program] = read_record(checkpoint / COMPLETE)["code"]
    if earlier and earlier[-1]["digest"] == code:
        return earlier
    step = step_of(checkpoint)
    print(f"code changed since step {step}; continuing, provenance records both", file=sys.stderr, flush=True)
    return [*earlier, {"digest": code, "from_step": step}]


def forget(folder: Path) -> None:
    """Remove the checkpoints and records in `folder`, so that training starts over."""
    for path in (*_checkpoints(folder), folder / METRICS, *folder.glob("system-*.jsonl")):
        remove(path)


def check_parallelism(checkpoint: Path, strategy: str, processes: int) -> None:
    """Check that `processes` processes can load `checkpoint`, a sound one, under `strategy`.

    Raises:
        UserError: they cannot.
    """
    saved = read_record(checkpoint / COMPLETE)
    if saved["strategy"] != strategy or (saved["processes"] != processes and strategy not in RESHARDED):
        raise UserError(
            f"{checkpoint}: was saved by {saved['processes']} processes with strategy {saved['strategy']}, found "
            f"{processes} with {strategy}; expected the same, or this folder removed to start over"
        )


def latest_complete(folder: Path) -> Path | None:
    """Return the complete checkpoint (one with a mark) of the highest step in `folder`, or None."""
    whole = [path for path in _checkpoints(folder) if (path / COMPLETE).is_file()]
    return max(whole, key=step_of, default=None)


def latest_valid(folder: Path) -> Path | None:
    """Return the undamaged checkpoint of the highest step in `folder`, or None; read all its files.

    Those that were cut off while they were written are removed, lest retention count them; so are damaged ones, each
    of which is named in a line.
    """
    for path in _checkpoints(folder):
        if not (path / COMPLETE).exists():
            remove(path)
    left = sorted(_checkpoints(folder), key=step_of)
    while left:
        path = left.pop()
        damaged = _damaged(path)
        if damaged is None:
            return path
        tell(path / damaged, f"training resumes from {left[-1].name}" if left else "training starts over")
        remove(path)
    return None


def step_of(checkpoint: Path) -> int:
    """Optimiser steps done when the checkpoint was taken."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match, checkpoint
    return int(match[1])


def _damaged(checkpoint: Path) -> str | None:
    """Return the first file of `checkpoint` that is not as it was written, or None."""
    mark = read_record(checkpoint / COMPLETE)
    if mark is None:
        return COMPLETE
    found = identities(checkpoint, mark["files"])
    return next((name for name, written in mark["files"].items() if found[name] != written), None)


def _identity(path: Path) -> Identity | None:
    return [path.stat().st_size, file_sha256(path)] if path.is_file() else None


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
