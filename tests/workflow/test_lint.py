"""The habits: what `make lint` checks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    ["ruff check .", "ruff format --check .", "snakefmt --check Snakefile workflow", "mypy", "snakemake --lint"],
)
def test_clean(command: str):
    program, *arguments = command.split()
    done = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda path: path.stem)
def test_every_value_in_a_shell_command_is_quoted(file: Path):
    for command in re.findall(r"^    shell:\n((?:        .*\n)+)", file.read_text(), re.MULTILINE):
        for value in re.findall(r"(?<!\{)\{[^{}]+\}", command):
            assert value.endswith(":q}"), value


def test_make_lint_and_pre_commit_run_the_same_commands():
    makefile = (ROOT / "Makefile").read_text()
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    for command in ("ruff check", "ruff format --check", "snakefmt --check", "mypy", "snakemake --lint"):
        assert f"\t{command}" in makefile
        assert f".venv/bin/{command}" in hooks
