"""Every block of commands in README and docs: run on the demo's results, or dry, or not for a reason that it states.

The line above a block says which: `<!-- test: run -->`, `<!-- test: dry -->` (Snakemake and make by -n, `parrot` by
--help, the rest by bash's reading it) or `<!-- test: none REASON -->`.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.project import Project, new_project

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^( *)```(sh|bash|python)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- test: (run|dry|none \S.*) -->\n *\Z")
MADE = ("results", "data", "examples", ".venv", "Makefile", "pyproject.toml", "constraints.txt", "README.md", "tests")


class Block(NamedTuple):
    """A block of commands and how it is tried."""

    where: str
    way: str
    language: str
    code: str


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            where = f"{page.name}:{text.count(chr(10), 0, fence.start()) + 1}"
            mark = MARK.search(text[: fence.start()])
            code = re.sub(rf"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
            found.append(Block(where, mark[1] if mark else "", fence[2], code))
    return found


BLOCKS = blocks()


def of(way: str) -> list[object]:
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.way == way]


@pytest.fixture(scope="module", name="project")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the repository with the demo's results, and with the data set and the run that docs/runs.md adds."""
    project = new_project(tmp_path_factory.mktemp("commands") / "project")
    for name in MADE:
        (project / name).symlink_to(ROOT / name)
    runs = (ROOT / "docs/runs.md").read_text(encoding="utf-8")
    (entry,) = re.findall(r"```yaml\n(my_sft_tr:\n.*?)```", runs, re.DOTALL)
    (run,) = re.findall(r"`(mine: \{data: .*?\}\}\})`", runs)
    with open(project / "config/datasets.yaml", "a", encoding="utf-8") as file:
        file.write(f"\n{entry}")
    project.edit("config/runs.yaml", "\nfamilies:", f"\n{run}\nfamilies:")
    return project


def test_every_block_says_how_it_is_tried() -> None:
    assert len(BLOCKS) > 10
    assert [block.where for block in BLOCKS if not block.way] == []


@pytest.mark.parametrize("block", of("run"))
def test_commands_run_on_the_demos_results(project: Project, block: Block) -> None:
    interpreter = {"python": [sys.executable, "-c"]}.get(block.language, ["bash", "-euo", "pipefail", "-c"])
    done = project.run(*interpreter, block.code)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("block", of("dry"))
def test_commands_are_ones_that_would_run(project: Project, block: Block) -> None:
    assert project.run("bash", "-n", "-c", block.code).returncode == 0
    tried = 0
    for words in commands(block.code):
        if (dry := dry_run(words)) is not None:
            tried += 1
            done = project.run(*dry)
            assert done.returncode == 0, f"{shlex.join(dry)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert tried, f"{block.where}: nothing in it can be tried dry; say none and why"


def commands(code: str) -> list[list[str]]:
    """The simple commands of a shell block, without redirections, assignments in front and what follows a pipe."""
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                found.append(command)
                command = []
            elif command or not re.match(r"\w+=", word):
                command.append(word)
    return [command for command in found if command]


def dry_run(words: list[str]) -> list[str] | None:
    """The command that tries `words` without doing anything; None for another program's."""
    match words[0]:
        case "snakemake":
            return ["snakemake", "--dry-run", "--quiet", "all", *words[1:]]
        case "parrot":
            return [*words, "--help"]
        case "make":
            return ["make", "-n", *words[1:]]
    return None


def test_comments_and_redirections_are_no_part_of_a_command() -> None:
    code = 'A=b parrot chat "x # y" < in.txt  # why\ncd x && snakemake \\\n  --cores 2 all | tee log\n'
    assert commands(code) == [
        ["parrot", "chat", "x # y"], ["in.txt"], ["cd", "x"], ["snakemake", "--cores", "2", "all"], ["tee", "log"],
    ]  # fmt: skip
