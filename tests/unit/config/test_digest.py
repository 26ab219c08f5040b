"""What makes a job out of date: values and code, not their spelling."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parrot.config.staleness import canonical, key

REPOSITORY = Path(__file__).parents[3]


def test_canonical_ignores_key_order():
    assert canonical({"b": 1, "a": [1, {"d": 2, "c": 3}]}) == '{"a":[1,{"c":3,"d":2}],"b":1}'
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert key({"a": 1}) != key({"a": 2})


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "parrot", tmp_path / "parrot", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "parrot/one.py").write_text('"""Doc."""\nfrom parrot import two\n\ndef f():\n    return two.g()\n')
    (tmp_path / "parrot/two.py").write_text("def g():\n    return 1\n")
    return tmp_path


def digest(folder: Path) -> str:
    code = "from parrot.config.staleness import code_digest; print(code_digest('parrot.one'))"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_comments_and_docstrings_do_not_count(package: Path):
    before = digest(package)
    (package / "parrot/one.py").write_text(
        '"""Other."""\nfrom parrot import two  # why\n\ndef f():\n    """New."""\n    return two.g()\n'
    )
    assert digest(package) == before


@pytest.mark.parametrize("name", ["one", "two"])
def test_code_of_the_import_closure_counts(package: Path, name: str):
    before = digest(package)
    path = package / f"parrot/{name}.py"
    path.write_text(path.read_text() + "\nX = 1\n")
    assert digest(package) != before


def test_templates_count_with_the_package_they_lie_in(package: Path):
    before = digest(package)
    (package / "parrot/report/page.css").write_text("p { margin: 0; }")
    assert digest(package) == before
    (package / "parrot/page.css").write_text("p { margin: 0; }")
    assert digest(package) != before


def test_code_outside_the_closure_does_not_count(package: Path):
    before = digest(package)
    (package / "parrot/three.py").write_text("X = 1\n")
    assert digest(package) == before


def test_imported_code_whose_values_reach_the_job_otherwise_does_not_count(package: Path):
    one, config = package / "parrot/one.py", package / "parrot/config/settings.py"
    one.write_text("from parrot import config\n" + one.read_text())
    before = digest(package)
    config.write_text(config.read_text() + "\nX = 1\n")
    assert digest(package) == before
