"""What a training's processes agree on outside of collectives: one does it, the others wait for word of it.

The word goes through torchrun's key-value store, which is there before the processes talk by NCCL or gloo. It has the
patience that NCCL lacks: a collective that one process comes to half an hour late ends them all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from torch import distributed

PATIENCE = timedelta(days=7)  # a process that died is torchrun's to notice, and it ends the others


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
    store.wait([f"parrot/{name}"], PATIENCE)
    return json.loads(store.get(f"parrot/{name}"))


@cache
def _store() -> tuple[distributed.Store, int]:
    store, rank, _ = next(distributed.rendezvous("env://"))
    return store, rank
