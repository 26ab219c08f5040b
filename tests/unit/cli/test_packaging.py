"""What is needed, said once in pyproject.toml, and one lock of it, constraints.txt."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import parrot

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def needed(project):
    """Every requirement, of the package and of its extras."""
    extras = project["optional-dependencies"].values()
    return [Requirement(line) for line in [*project["dependencies"], *(line for extra in extras for line in extra)]]


@pytest.fixture(scope="module")
def lock():
    """Versions by normalised name; every line is an exact pin."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [re.fullmatch(r"([A-Za-z0-9_.-]+)==([^\s;]+)", line) for line in lines if not line.startswith("#")]
    assert all(pins)
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in pins}


def test_every_requirement_has_a_lowest_version_and_one_that_is_too_new(needed):
    for requirement in needed:
        assert sorted(bound.operator for bound in requirement.specifier) == ["<", ">="], requirement


def test_the_lock_holds_every_requirement_within_its_range(needed, lock):
    for requirement in needed:
        assert lock[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize(("name", "tried"), [("torch", ["2.11.0", "2.13.0"]), ("transformers", ["5.17.0", "5.23.0"])])
def test_ranges_begin_and_end_with_versions_that_were_tried(needed, name, tried):
    (requirement,) = [one for one in needed if one.name == name]
    assert all(version in requirement.specifier for version in tried)
    earlier, later = (Version(version) for version in (tried[0], tried[-1]))
    assert f"{earlier.major}.{earlier.minor - 1}" not in requirement.specifier
    assert f"{later.major}.{later.minor + 1}" not in requirement.specifier


def test_nothing_in_the_lock_brings_cuda(lock):
    assert [name for name in lock if name.startswith("nvidia") or name == "triton"] == ["nvidia-ml-py"]


def test_the_conda_environment_takes_python_and_the_lock_alone(project):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == [
        "python=3.11",
        "pip",
        {"pip": ["--constraint constraints.txt", "--editable .[gpu]"]},
    ]
    assert project["requires-python"] == ">=3.11,<3.12"


def test_every_place_names_the_same_version(project):
    places = [parrot.__version__, yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]]
    (newest, *_) = re.findall(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [*places, newest] == [project["version"]] * 3


def test_hosted_jobs_run_targets_that_there_are():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {command.removeprefix("make ") for command in commands} <= targets
    assert {"make lint", "make test", "make demo"} <= set(commands)


LIGHT = [
    "parrot",
    "parrot.config.settings",
    "parrot.config.runs",
    "parrot.cli.app",
    "parrot.tracking.identity",
    "parrot.cluster.doctor.examine",
    "parrot.cluster.plan.schedule",
    "parrot.cluster.plan.summary",
]


@pytest.mark.parametrize("module", LIGHT)
def test_light_imports(module):
    heavy = "torch", "transformers", "datasets", "mlflow"
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
