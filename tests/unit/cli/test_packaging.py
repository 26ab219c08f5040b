"""One set of pins, wherever they are written down."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PIN = re.compile(r"([A-Za-z0-9_.-]+)==([^\s;]+)")


def pins(lines):
    """Versions by normalised package name; every line must be an exact pin."""
    matches = [PIN.fullmatch(line) for line in lines]
    assert all(matches), [line for line, match in zip(lines, matches, strict=True) if not match]
    return {re.sub(r"[-_.]+", "-", match[1]).lower(): match[2] for match in matches}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return pins([line for line in lines if line and not line.startswith("#")])


def test_direct_dependencies_are_exact_and_in_the_constraints(project, constraints):
    extras = project["optional-dependencies"]
    direct = pins([*project["dependencies"], *extras["test"], *extras["sources"]])
    assert direct.items() <= constraints.items()


def test_nothing_in_the_constraints_brings_cuda(constraints):
    assert not [name for name in constraints if name.startswith("nvidia") or name == "triton"]


def test_conda_environment_has_the_same_pins(project):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip[0] == "--constraint constraints.txt"
    assert pip[-1] == "--editable ."
    extras = project["optional-dependencies"]
    assert pins(pip[1:-1]) == pins([*project["dependencies"], *extras["gpu"]])
    # What compiles against the installed torch is an extra alone, which a comment names.
    assert list(pins(extras["flash"])) == ["flash-attn"]
    assert "--no-build-isolation --constraint constraints.txt --editable '.[gpu,flash]'" in (
        ROOT / "environment.yml"
    ).read_text(encoding="utf-8")
    assert "python=3.11" in environment["dependencies"]
    assert project["requires-python"] == ">=3.11,<3.12"


LIGHT = [
    "parrot",
    "parrot.config.settings",
    "parrot.config.runs",
    "parrot.cli.app",
    "parrot.tracking.identity",
    "parrot.cluster.doctor.examine",
    "parrot.cluster.plan.jobs",
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_imports(module):
    heavy = "torch", "transformers", "datasets", "mlflow"
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
