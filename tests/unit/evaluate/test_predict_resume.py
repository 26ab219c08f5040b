"""Prediction that is killed, and prediction by several processes: the same files in the end."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from parrot.config.stages import PredictSettings
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import ConfigError
from parrot.evaluate.asker import Asker
from parrot.evaluate.generate import Answer
from parrot.evaluate.journal import Journal
from parrot.evaluate.predict import predict
from parrot.evaluate.questions import Question
from parrot.evaluate.shares import shares
from parrot.model.checkpoint import load_parrot
from tests.helpers.tiny_questions import predict_settings
from tests.helpers.tiny_training import talkative_model

pytestmark = pytest.mark.slow

BATCH = 2
# Prediction that dies by SIGKILL when it is asked its batch number {after}.
KILLED = """
import os, signal, sys
from functools import partial
from pathlib import Path
from parrot.evaluate.asker import Asker
from parrot.evaluate.predict import predict
from parrot.model.checkpoint import load_parrot
from parrot.config.stages import PredictSettings

folder, after = Path(sys.argv[1]), int(sys.argv[2])
ask, asked = Asker.ask, []
def counted(self, places):
    asked.append(places)
    if len(asked) == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return ask(self, places)
Asker.ask = counted
settings = PredictSettings.model_validate_json((folder / "settings.json").read_text())
predict(settings, partial(load_parrot, folder / "model"), folder / "out", folder / "work", 2)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    return talkative_model(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    return predict_settings(tmp_path)


@pytest.fixture
def saved(built, settings, tmp_path: Path) -> Path:
    for part in built:
        part.save_pretrained(tmp_path / "model")
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    return tmp_path / "model"


def asked_places(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    asked: list[int] = []
    ask = Asker.ask
    monkeypatch.setattr(Asker, "ask", lambda self, places: asked.extend(places) or ask(self, places))
    return asked


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_and_asked_again_it_repeats_one_batch_at_most(saved, settings, tmp_path, monkeypatch):
    whole = partial(predict, settings, partial(load_parrot, saved))
    whole(tmp_path / "whole", tmp_path / "elsewhere", BATCH)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "8"])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (journal,) = (tmp_path / "work/predict").glob("*/*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])  # the last line was on its way
    asked = asked_places(monkeypatch)
    whole(tmp_path / "out", tmp_path / "work", BATCH)
    assert len(asked) == len(set(asked)) == 49 - 6 * BATCH
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not list((tmp_path / "work/predict").iterdir())


def test_a_restart_sees_the_pictures_of_what_is_left_alone(built, settings, tmp_path, monkeypatch):
    ask, see, seen = Asker.ask, Asker.see, []
    batches = iter(range(18))  # 35 of the questions are about pictures, and asked first

    def interrupted(asker, places):
        if next(batches) == 17:
            raise KeyboardInterrupt
        return ask(asker, places)

    monkeypatch.setattr(Asker, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(settings, lambda: built, tmp_path / "out", tmp_path / "work", BATCH)
    monkeypatch.setattr(Asker, "ask", ask)
    monkeypatch.setattr(Asker, "see", lambda asker, some, batch: seen.extend(some) or see(asker, some, batch))
    predict(settings, lambda: built, tmp_path / "out", tmp_path / "work", BATCH)
    assert len(seen) == 1


def test_answers_to_other_questions_or_of_another_model_are_not_taken_up(saved, settings, tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "8"])
    model, processor = load_parrot(saved)
    with torch.no_grad():
        model.lm_head.weight[3] += 0.1
    asked = asked_places(monkeypatch)
    predict(settings, lambda: (model, processor), tmp_path / "a", tmp_path / "work", BATCH)
    assert len(asked) == 49
    table = read_tsv(tmp_path / "MMMB_en.tsv")
    table.loc[0, "question"] = "Which colour is it?"
    write_tsv(table, tmp_path / "MMMB_en.tsv")
    asked.clear()
    predict(settings, partial(load_parrot, saved), tmp_path / "b", tmp_path / "work", BATCH)
    assert len(asked) == 49


def test_two_processes_write_the_same_answers(saved, settings, tmp_path):
    build = partial(load_parrot, saved)
    predict(settings, build, tmp_path / "one", tmp_path / "work", BATCH)
    predict(settings, build, tmp_path / "two", tmp_path / "work", BATCH, processes=2)
    for name in contents(tmp_path / "one").keys() - {"manifest.json"}:
        one, two = read_tsv(tmp_path / "one" / name), read_tsv(tmp_path / "two" / name)
        assert one.drop(columns="router_weights").equals(two.drop(columns="router_weights"))


def load_and_answer_slowly(folder: Path):
    """The model of `folder`; one that takes minutes for an answer in a process of its own."""
    model, processor = load_parrot(folder)
    if multiprocessing.parent_process() is not None:
        model.register_forward_pre_hook(lambda *_: time.sleep(120))
    return model, processor


def test_what_is_wrong_in_one_of_two_processes_is_one_line_and_ends_the_other(saved, settings, tmp_path, capfd):
    table = read_tsv(tmp_path / "MMMB_en.tsv")
    table.loc[3, "image"] = "A" * 100
    write_tsv(table, tmp_path / "MMMB_en.tsv")
    with pytest.raises(ConfigError, match=r"MMMB_en.tsv: row 3: image cannot be decoded") as caught:
        predict(settings, partial(load_and_answer_slowly, saved), tmp_path / "out", tmp_path / "work", BATCH, 2)
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []
    assert [line for line in capfd.readouterr().err.splitlines() if "questions/s" not in line] == []


def test_a_journal_gives_back_what_it_was_given(tmp_path):
    given = {7: Answer([1, 2], "eos", [0.1, 0.9]), 2: Answer([], "length", [])}
    Journal(tmp_path, "0").add(list(given), list(given.values()))
    Journal(tmp_path, "1").add([4], [Answer([3])])
    assert Journal(tmp_path, "5").answers == given | {4: Answer([3])}


def question(number: int, name: str | None, limit: int = 4) -> Question:
    return Question(f"{number}", name, "here", limit, "en")


def test_shares_hold_every_question_once_and_every_picture_in_one_place():
    random = np.random.default_rng(0)
    names = [None if n % 7 == 0 else f"p{random.integers(20)}" for n in range(200)]
    questions = [question(n, name, 4 + n % 2) for n, name in enumerate(names)]
    lengths = random.integers(5, 90, 200).tolist()
    mine = shares(questions, lengths, batch=8, pictures_at_once=4, processes=3)
    assert sorted(place for part in mine for share in part for places in share.batches for place in places) == list(
        range(200)
    )
    seen = [name for part in mine for share in part for name in share.pictures]
    assert sorted(seen) == sorted({name for name in names if name})
    for part in mine:
        for share in part:
            assert len(share.pictures) <= 5
            for places in share.batches:
                assert len(places) <= 8
                assert len({(names[p] is None, questions[p].max_new_tokens) for p in places}) == 1
                assert [lengths[p] for p in places] == sorted((lengths[p] for p in places), reverse=True)
                assert {names[p] for p in places} - {None} <= set(share.pictures)
    costs = [
        sum(lengths[p] + questions[p].max_new_tokens for share in part for places in share.batches for p in places)
        for part in mine
    ]
    assert max(costs) <= 1.05 * min(costs)
