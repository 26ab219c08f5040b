"""DVC holds data to its pin, and nothing rewrites the pin."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parrot.config import ConfigError
from parrot.data.pin import confirm


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch) -> Path:
    """A fresh clone's state: a pin, the data rebuilt, an empty cache."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/mini").mkdir(parents=True)
    (tmp_path / "data/mini/a.json").write_text("[]")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "data/mini"], check=True)
    beside = tmp_path / "data/mini.dvc"
    (tmp_path / "data.dvc").write_text(beside.read_text().replace("path: mini", "path: data/mini"))
    beside.unlink()
    shutil.rmtree(tmp_path / ".dvc/cache")
    return tmp_path


def test_identical_data_is_taken_in_and_other_data_refused(pinned: Path):
    pin = (pinned / "data.dvc").read_bytes()
    confirm(Path("data.dvc"))
    status = subprocess.run([sys.executable, "-m", "dvc", "status", "-q", "data.dvc"])
    assert status.returncode == 0
    (pinned / "data/mini/a.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"^data\.dvc: the data is not what was pinned[^\n]*$"):
        confirm(Path("data.dvc"))
    assert (pinned / "data.dvc").read_bytes() == pin


def test_missing_pin(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.dvc: no such pin"):
        confirm(tmp_path / "data.dvc")
