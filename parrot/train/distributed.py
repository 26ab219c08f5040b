"""What a training's processes agree on outside of collectives: one does it, the others wait for word of it.

The word goes through torchrun's key-value store, which is there before the processes talk by NCCL or gloo. It has the
patience that NCCL lacks: a collective that one process comes to half an hour late ends them all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import distributed

# The store's own waiting would hold up a SIGTERM, by which Slurm stops all, and torchrun those whose first one failed.
SECONDS_BETWEEN_LOOKS = 0.2


def from_first(name: str, make: Callable[[], Any]) -> Any:
    """What `make` returns in the first process, a JSON value, in all of them; only the first one calls it.

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
