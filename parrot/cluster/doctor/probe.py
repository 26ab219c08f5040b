"""Run where jobs run: a line of JSON tells which of the named modules import, which GPUs torch sees, and whether
MLflow's server, where there is one, answers."""

from __future__ import annotations

import importlib
import json
import os
import sys

from parrot.cluster.doctor.mlflow import check_store
from parrot.tracking.store import store_uri


def main() -> None:
    """Import the modules that the command line names."""
    versions, broken, gpus = {}, {}, []
    for name in sys.argv[1:]:
        try:
            versions[name] = str(importlib.import_module(name).__version__)
        # A package that was compiled for another torch or driver fails in ways of its own.
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if "torch" in versions:
        import torch

        gpus = [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]
    host = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
    told = {"host": host, "versions": versions, "broken": broken, "gpus": gpus}
    if store_uri().startswith("http"):
        told["server"] = vars(check_store(store_uri(), elsewhere=False))
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
