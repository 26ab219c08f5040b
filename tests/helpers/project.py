"""A copy of the repository in a temporary folder, and Snakemake run in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = (
    "Snakefile",
    "config",
    "workflow",
    "parrot",
    "slurm",
    "profiles",
    "environment.yml",
    ".dvc",
    ".dvcignore",
    "data.dvc",
)


class Project:
    """A copy of the repository; its own `parrot` package is the one that runs in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __truediv__(self, path: str) -> Path:
        return self.folder / path

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / "stubs"), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        return environment

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("snakemake", "--cores", "2", *arguments)

    def scheduled(self, *arguments: str) -> set[tuple[str, str]]:
        """What a dry run schedules, as (rule, its wildcards' values)."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        blocks = re.split(r"\n(?=(?:local)?rule \w+:\n)", done.stdout + done.stderr)
        jobs = set()
        for block in blocks:
            if rule := re.match(r"(?:local)?rule ([\w.]+):\n", block):
                wildcards = re.search(r"^ +wildcards: (.*)$", block, re.MULTILINE)
                values = re.findall(r"\w+=([^,\s]+)", wildcards[1]) if wildcards else []
                jobs.add((rule[1], ",".join(values)))
        return jobs

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path}: {old!r} occurs {text.count(old)} times"
        (self.folder / path).write_text(text.replace(old, new), encoding="utf-8")

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def new_project(folder: Path) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_symlink():
            (folder / part).symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
        elif source.exists():
            shutil.copy2(source, folder / part)
    # Where Slurm's client is installed without a controller, every start of Snakemake would wait for one.
    stub = folder / "stubs" / "scontrol"
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return Project(folder)
