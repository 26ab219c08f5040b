"""The habits: what `make lint` checks."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


COMMANDS = (
    "ruff check .",
    "ruff format --check .",
    "snakefmt --check Snakefile workflow",
    "mypy",
    "lint-imports --no-logo --no-cache",
    "snakemake --lint",
)


@pytest.mark.parametrize("command", COMMANDS)
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
    for command in COMMANDS:
        assert f"\t{command}\n" in makefile
        assert f".venv/bin/{command.removesuffix(' .').removesuffix(' Snakefile workflow')}" in hooks


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("data/tsv.py", "from parrot.report import tables", "Imports go only downwards"),
        ("io/files.py", "from parrot.io import lock", "in a circle"),
        ("astray.py", "", "Imports go only downwards"),
    ],
    ids=["upwards", "in a circle", "in no layer"],
)
def test_an_import_against_the_contract_is_found(tmp_path: Path, file: str, line: str, contract: str):
    """The copy holds the contract; one more line does not."""
    shutil.copytree(ROOT / "parrot", tmp_path / "parrot", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "parrot" / file, "a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    done = subprocess.run(
        [BIN / "lint-imports", "--no-logo", "--no-cache"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.search(rf"{contract}.*BROKEN", done.stdout)
