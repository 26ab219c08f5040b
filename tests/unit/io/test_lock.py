"""One job at a time works in a folder: the second one is refused, or waits."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from parrot.errors import UserError, one_line
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predict import predict
from parrot.evaluate.predictor import Item
from parrot.io.lock import exclusive_lock
from tests.helpers.locks import held
from tests.helpers.tiny_questions import in_memory, predict_settings
from tests.helpers.tiny_training import talkative_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def test_one_at_a_time_until_the_other_is_dead(folder: Path) -> None:
    with held(folder) as holder:
        told = rf"^{folder}: process {holder.pid} on \S+ is training here; expected one at a time$"
        with pytest.raises(UserError, match=told), exclusive_lock(folder, "training"):
            pass
    with exclusive_lock(folder, "training"):
        assert not list(folder.iterdir()), "NFS does not remove a folder with an open file in it"
    assert list(folder.parent.iterdir()) == [folder]


def test_who_waits_has_the_folder_when_the_other_lets_go(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def wait() -> None:
        with exclusive_lock(folder, "composing", wait=True):
            order.append("waited")

    with held(folder) as holder:
        waiting = Thread(target=wait)
        waiting.start()
        while not (told := capsys.readouterr().err):
            assert waiting.is_alive()
        who = f"process {holder.pid} on {os.uname().nodename}"
        assert told == f"parrot: {folder}: waiting for {who}, which is composing here\n"
        order.append("let go")
    waiting.join()
    assert order == ["let go", "waited"]


def test_a_job_that_was_started_again_elsewhere_goes_on_over_the_lock_of_a_node_that_is_down(folder, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "31")
    with exclusive_lock(folder, "training"):
        with pytest.raises(UserError, match="of Slurm job 31 is training here"), exclusive_lock(folder, "training"):
            pass  # on this node the kernel knows that its first process is alive
        monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="another"))
        with exclusive_lock(folder, "training"):
            monkeypatch.setenv("SLURM_JOB_ID", "311")
            with pytest.raises(UserError, match="another of Slurm job 31 is training here"):
                exclusive_lock(folder, "training").__enter__()


def test_a_lock_that_the_disk_has_no_room_for_is_named_and_goes(folder: Path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full, exclusive_lock(folder, "training"):
            pytest.fail("the folder is held")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert one_line(full.value) == f"{folder}.lock: File too large"
    assert not folder.with_name(f"{folder.name}.lock").exists()


def test_a_second_prediction_of_the_same_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built, settings = talkative_model(tmp_path), predict_settings(tmp_path)
    generate, refused = ParrotPredictor.generate, []

    def and_another_one(predictor: ParrotPredictor, items: list[Item]) -> object:
        if not refused:
            with pytest.raises(UserError, match="is predicting here; expected one at a time$") as error:
                predict(settings, in_memory(built), tmp_path / "second", tmp_path / "work", 8)
            refused.append(error)
        return generate(predictor, items)

    monkeypatch.setattr(ParrotPredictor, "generate", and_another_one)
    predict(settings, in_memory(built), tmp_path / "first", tmp_path / "work", 8)
    assert refused
    assert not (tmp_path / "second").exists()
