"""Print one JSON line on a compute node: the modules that import, torch's GPUs and MLflow's server."""

from __future__ import annotations

import importlib
import json
import os
import sys

from parrot.cluster.doctor.mlflow import check_store
from parrot.tracking.store import store_uri


def main() -> None:
    """Import the modules of the command line and print the report."""
    versions, broken, gpus = {}, {}, []
    for name in sys.argv[1:]:
        try:
            versions[name] = str(importlib.import_module(name).__version__)
        # A package that was compiled for another torch or driver can fail in any way.
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if "torch" in versions:
        import torch

        gpus = [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())]
    host = os.environ.get("SLURMD_NODENAME", os.uname().nodename)
    report = {"host": host, "versions": versions, "broken": broken, "gpus": gpus}
    if store_uri().startswith("http"):
        report["server"] = vars(check_store(store_uri(), elsewhere=False))
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
