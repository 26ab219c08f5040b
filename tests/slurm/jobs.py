"""Snakemake submitting to the cluster, and a look at its jobs while they run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.helpers.project import Project

# The mini scale's files, named on the command line, take the place of the profile's. What the profile cannot know is a
# test's patience.
FILES = ("config/config.yaml", "config/small.yaml")
IMPATIENT = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
PATIENCE = 900  # seconds

Found = TypeVar("Found")


class Run:
    """`snakemake --profile slurm` under way, in its own process."""

    def __init__(self, project: Project, *arguments: str, over: tuple[str, ...] = ()):
        self.project = project
        self.file = project / f"snakemake.{time.monotonic_ns()}.log"
        self.folders: dict[str, Path] = {}
        with open(self.file, "w") as output:
            command = ["snakemake", "--profile", "slurm", *IMPATIENT, "--configfile", *FILES, *over, *arguments]
            environment = {name: value for name, value in project.environment.items() if name != "HF_HUB_OFFLINE"}
            self.process = subprocess.Popen(
                command, cwd=project.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def finish(self) -> int:
        """Its exit code."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()

    def wait_for(self, what: str, look: Callable[[], Found | None]) -> Found:
        """What `look` finds, as soon as it does while Snakemake runs."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if found := look():
                return found
            time.sleep(0.3)
        self.process.kill()
        raise AssertionError(f"no {what} while Snakemake ran:\n{self.output}\n{said(self.project)}")

    def training(self, run: str, steps: int) -> str:
        """The job of a run's stage 2, once it runs and has taken `steps` steps; no other run starts at that time."""
        job = self.wait_for(f"job of stage 2 of {run}", lambda: jobs("RUNNING").get(f"rule_tune_wildcards_{run}"))
        self.wait_for(f"step {steps} of {run}", lambda: self._step(run) >= steps)
        return job

    def _step(self, run: str) -> int:
        """The newest recorded step, in the one folder of checkpoints that is no other run's."""
        for folder in set((self.project / "work/mini/tune").glob("*/")) - set(self.folders.values()):
            self.folders.setdefault(run, folder)
        record = self.folders.get(run, Path("none")) / "metrics.jsonl"
        return len(record.read_text().splitlines()) if record.exists() else 0


def jobs(*states: str) -> dict[str, str]:
    """The ids of jobs in one of `states` by the comment that Snakemake gives them: their rule and wildcards."""
    listed = slurm("squeue", "--noheader", f"--states={','.join(states)}", "--format=%k %i")
    return dict(line.split() for line in listed.splitlines())


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def said(project: Project) -> str:
    """The ends of all logs of jobs, for a failing test's report."""
    files = sorted((project / "logs").rglob("*.log"), key=lambda path: path.stat().st_mtime)
    return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-3000:]}" for file in files)


def metrics(folder: Path) -> list[dict[str, float]]:
    """A stage's record of its steps."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def provenance(folder: Path) -> dict:
    return json.loads((folder / "provenance.json").read_text())
