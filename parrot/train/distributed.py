"""A training's processes beside its collectives: one does what all wait for, and others decode images.

The word goes through torchrun's key-value store, which is there before the processes talk by NCCL or gloo. It has the
patience that NCCL lacks: a collective that one process comes to half an hour late ends them all.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import distributed

from parrot.errors import UserError

# The store's own waiting would hold up a SIGTERM, by which Slurm stops all, and torchrun those whose first one failed.
SECONDS_BETWEEN_LOOKS = 0.2


def broadcast_from_rank0(name: str, make: Callable[[], Any]) -> Any:
    """Call `make` in the first process and return its result, a JSON value, in all of them.

    `name` is used once in a training. An error that `make` raises ends the first process, and torchrun the others.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return make()
    store, rank = _store()
    if rank == 0:
        made = make()
        store.set(f"parrot/{name}", json.dumps(made))
        return made
    while not store.check([f"parrot/{name}"]):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return json.loads(store.get(f"parrot/{name}"))


@cache
def _store() -> tuple[distributed.Store, int]:
    store, rank, _ = next(distributed.rendezvous("env://"))
    return store, rank


MOST_WORKERS = 8
SYSTEMS = re.compile(r"\[Errno (\d+)\] [^:\n]*(?:: '(.+)')?$")  # a system's error as a traceback ends with it


def workers(requested: int | None, on_gpu: bool) -> int:
    """Return the loading processes of one training process: `requested`, or where None by the number of cores.

    Beside a GPU the cores are free to decode images, one stays with the training; without one the model needs them.
    """
    if requested is not None:
        return requested
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(0, min(MOST_WORKERS, cores - 1)) if on_gpu else 0


def outlive_signals(worker: int) -> None:
    """For `worker_init_fn`: end by a SIGTERM of the training process alone, and by no Ctrl-C.

    Slurm, torchrun and terminals send theirs to all processes of a job; the training goes on until its checkpoint is
    saved, and fails when a loading process is gone before. If they ignored SIGTERM altogether, the training would wait
    for them at its exit.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(training: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != training:
        pass
    os._exit(0)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise a loading process's UserError or OSError as it was: torch puts that process's traceback around it."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).rstrip().rpartition("UserError: ")[2]) from None
    except OSError as error:
        found = SYSTEMS.search(str(error).rstrip())
        if error.errno is not None or found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), found[2]) from None
