"""Slurm's commands as scripts that say what they are told to."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

NODES = """\
gpu*|up|2-00:00:00|gpu1|gpu1|idle|32|500000|gpu:h100:8(S:0-1)
gpu*|up|2-00:00:00|gpu2|gpu2|mix|32|500000|gpu:h100:8(S:0-1)
gpu*|up|2-00:00:00|gpu3|gpu3|down*|32|500000|gpu:h100:8(S:0-1)
small|up|1:30:00|old1|old1|idle|8|64000|gpu:a100:2,gpu:1g.10gb:7
small|up|1:30:00|gpu1|gpu1|idle|32|500000|gpu:h100:8(S:0-1)
closed|down|infinite|old2|old2|idle|8|64000|(null)
"""
# Runs the command behind the options on "gpu1".
SRUN = 'while [ "${1#--}" != "$1" ]; do shift; done; SLURMD_NODENAME=gpu1 exec "$@"'


class FakeSlurm:
    """A folder of commands; at first a cluster on which all is well, without accounting."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "scancel"):
            self.says(name, "")
        self.says("scontrol", "Slurmctld(primary) at head is UP\nMinJobAge               = 300 sec")
        self.says("sinfo", NODES)
        for name in ("sacct", "sacctmgr"):
            self.says(name, error="Slurm accounting storage is disabled", code=1)
        self.runs("srun", SRUN)

    def says(self, name: str, out: str = "", error: str = "", code: int = 0) -> None:
        """Let the command `name` print, and exit with `code`."""
        lines = "".join(f"echo {shlex.quote(line)}\n" for line in out.splitlines())
        self.runs(name, f"{lines}echo {shlex.quote(error)} >&2\nexit {code}")

    def runs(self, name: str, script: str) -> None:
        """Let the command `name` run a shell script."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    @property
    def path(self) -> str:
        """PATH with these commands first."""
        return os.pathsep.join([str(self.folder), "/usr/bin", "/bin"])
