"""One training at a time writes into a folder of checkpoints."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parrot.config import ConfigError


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold `folder` for this training, by its first process; the kernel lets go when that ends, however it ends.

    Between machines this holds on NFS, where Linux makes it a lock of the server, and on Lustre mounted with `flock`.
    Where a file system has no locks, a line says so and nothing is held. A server may keep the lock of a node that went
    down; the same Slurm job, started again elsewhere, goes on over it.

    The lock's file stays beside the folder: on NFS a folder cannot be removed while a file in it is open.

    Raises ConfigError, naming the other one, where another training holds it.
    """
    if int(os.environ.get("RANK", 0)) > 0:
        yield
        return
    job = os.environ.get("SLURM_JOB_ID")
    with open(folder.with_name(f"{folder.name}.lock"), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            if job is None or not holder.endswith(f" of Slurm job {job}"):
                raise ConfigError(f"{folder}: {holder} is training here; expected one at a time") from None
        except OSError as error:
            print(f"{folder}: cannot be locked ({error.strerror}); let nothing else train here", file=sys.stderr)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}" + (f" of Slurm job {job}" if job else ""))
        file.flush()
        yield
