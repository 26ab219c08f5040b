"""One process at a time works in a folder: one training, one prediction, one fetch.

Ours and not filelock's, since whoever waits or is refused is told which process of which machine holds the folder.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from parrot.errors import UserError, naming
from parrot.io.files import make_folder


@contextmanager
def exclusive_lock(folder: Path, doing: str, wait: bool = False) -> Iterator[None]:
    """Hold `folder` for this job, by its first process; the kernel lets go when that ends, however it ends.

    Between machines this holds on NFS, where Linux makes it a lock of the server, and on Lustre mounted with `flock`.
    Where a file system has no locks, a line says so and nothing is held. A server may keep the lock of a node that went
    down; the same Slurm job, started again on another, goes on over it.

    The lock's file lies beside the folder, since on NFS a folder cannot be removed while a file in it is open, and goes
    when the holder lets go.

    Raises:
        UserError: another job holds it; the line names that job and what it is `doing`. With `wait`, says so and waits
            instead.
    """
    if int(os.environ.get("RANK", 0)) > 0:
        yield
        return
    path = lock_of(folder)
    make_folder(path.parent)
    while True:
        with open(path, "a+", encoding="utf-8", errors="replace") as file:
            _lock(file, folder, doing, wait)
            if not _lies_at(path, file):
                continue  # the one before let go and removed it
            job = os.environ.get("SLURM_JOB_ID")
            holder = f"process {os.getpid()} on {os.uname().nodename}" + (f" of Slurm job {job}" if job else "")
            try:
                with naming(path):
                    file.truncate(0)
                    os.write(file.fileno(), holder.encode())  # what a buffer cannot write fails again, without a name
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def lock_of(folder: Path) -> Path:
    """Return the lock file of `folder`, which may be a file or a folder."""
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def unless_held(folder: Path) -> Iterator[str | None]:
    """Hold `folder`, where it has a lock's file, and give None; or give who holds it already, or may do so.

    Nothing is written: this is for whoever looks at what others left, perhaps on a full disk.
    """
    try:
        descriptor = os.open(lock_of(folder), os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        yield f"a process that cannot be queried ({error.strerror})"
        return
    with open(descriptor, "r+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = None
        except OSError:  # held, or the file system has no locks
            holder = file.read().strip() or "another process"
        yield holder


def remove_lock(path: Path) -> None:
    """Remove a lock's file, unless somebody holds it."""
    with suppress(FileNotFoundError, BlockingIOError), open(path, "r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _lies_at(path, file):
            path.unlink()


def _lies_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: TextIO, folder: Path, doing: str, wait: bool) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        if wait:
            print(f"parrot: {folder}: waiting for {holder}, which is {doing} here", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        elif not _of_a_node_that_is_down(holder):
            raise UserError(f"{folder}: {holder} is {doing} here; expected one at a time") from None
    except OSError as error:
        print(
            f"parrot: warning: {folder}: cannot be locked ({error.strerror}); let nothing else be {doing} here",
            file=sys.stderr,
        )


def _of_a_node_that_is_down(holder: str) -> bool:
    """Tell whether `holder` is this Slurm job before a restart; on this node the kernel knows who is alive."""
    job = os.environ.get("SLURM_JOB_ID")
    return holder.endswith(f" of Slurm job {job}") and f" on {os.uname().nodename} " not in holder
