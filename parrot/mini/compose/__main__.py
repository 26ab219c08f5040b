"""Maintainers: compose data/mini and renew its pin, data.dvc (`python -m parrot.mini.compose`, or `make data`).

Everyone else gets the same folder from `parrot fetch`, which holds it to the pin and never renews that.
"""

from __future__ import annotations

import subprocess
import sys

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import load_catalogue
from parrot.errors import in_one_line
from parrot.mini import COMPOSED, RESOURCES
from parrot.mini.compose.write import compose

PIN = "data.dvc"


def main() -> None:
    """Compose and pin; the exit status is DVC's."""
    with in_one_line():
        benchmarks = load_catalogue("config/benchmarks.yaml", Benchmark)
        compose(RESOURCES, COMPOSED, benchmarks["mini_mmmb"].instruction)
    done = subprocess.run([sys.executable, "-m", "dvc", "commit", "--force", "--quiet", PIN])
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
