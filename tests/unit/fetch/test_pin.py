"""DVC holds data to its pin, and nothing rewrites the pin."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parrot.errors import UserError
from parrot.fetch.pin import confirm, pull, write

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


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
    with pytest.raises(UserError, match=r"^data\.dvc: the data is not what was pinned[^\n]*$"):
        confirm(Path("data.dvc"))
    assert (pinned / "data.dvc").read_bytes() == pin


def test_without_git_the_data_is_compared_all_the_same(pinned: Path, capsys):
    shutil.rmtree(pinned / ".git")
    confirm(Path("data.dvc"))
    said = capsys.readouterr().err
    assert said.startswith("parrot: data.dvc: the data is what was pinned; DVC's cache does not have it: ")
    assert said.count("\n") == 1
    (pinned / "data/mini/a.json").write_text("[1]")
    with pytest.raises(UserError, match=r"^data\.dvc: the data is not what was pinned: data/mini: md5: expected "):
        confirm(Path("data.dvc"))


def test_a_check_writes_nothing(pinned: Path):
    before = sorted(pinned.rglob("*"))
    confirm(Path("data.dvc"), check=True)
    assert sorted(pinned.rglob("*")) == before
    (pinned / "data/mini/b").mkdir()
    (pinned / "data/mini/b/c.json").write_text("[]")
    with pytest.raises(UserError, match="the data is not what was pinned"):
        confirm(Path("data.dvc"), check=True)


def test_a_pin_that_is_none_is_named(tmp_path: Path):
    (tmp_path / "data.dvc").write_text("- outs")
    with pytest.raises(UserError, match=r"data\.dvc: expected a file of DVC's with outs"):
        confirm(tmp_path / "data.dvc", check=True)


def test_missing_pin(tmp_path: Path):
    with pytest.raises(UserError, match=r"data\.dvc: no such pin"):
        confirm(tmp_path / "data.dvc")


def test_complete_data_is_pinned_under_its_folder_s_name(pinned: Path):
    (pinned / "data/paper").mkdir()
    for name in ("a.json", "images.zip", "images.zip.index", ".b.part"):
        (pinned / "data/paper" / name).write_text("[]")
    shutil.copy(ROOT / ".dvcignore", pinned)
    write(Path("data/paper.dvc"))
    confirm(Path("data/paper.dvc"))
    assert "nfiles: 2" in (pinned / "data/paper.dvc").read_text()  # neither the index nor what is half downloaded
    with pytest.raises(UserError, match=r"^data/lost\.dvc: expected the name of a folder, followed by \.dvc; "):
        write(Path("data/lost.dvc"))


def test_a_remote_is_taken_from_and_one_that_lacks_the_data_is_said(pinned: Path, capsys):
    pull(Path("data.dvc"))  # no remote is configured
    assert capsys.readouterr().err == ""
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "remote", "add", "-q", "-d", "shared", str(pinned / "remote")], check=True)
    shutil.rmtree(pinned / "data/mini")
    pull(Path("data.dvc"))
    assert capsys.readouterr().err.startswith("parrot: data.dvc: not in DVC's remote: ")
    (pinned / "data/mini").mkdir()
    (pinned / "data/mini/a.json").write_text("[]")
    confirm(Path("data.dvc"))
    subprocess.run([*dvc, "push", "-q", "data.dvc"], check=True)
    shutil.rmtree(pinned / "data/mini")
    shutil.rmtree(pinned / ".dvc/cache")
    pull(Path("data.dvc"))
    assert (pinned / "data/mini/a.json").read_text() == "[]"
