"""Prediction that is killed, and prediction by several processes: the same files in the end."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from parrot.config.stages import PredictSettings
from parrot.data.tsv import read_tsv, write_tsv
from parrot.errors import UserError
from parrot.evaluate.items import shards
from parrot.evaluate.model_source import trained
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predict import PredictionCache, predict, read_items, write_items
from parrot.evaluate.predictor import Generation, GenerationSettings, Item
from parrot.model.checkpoint import load_parrot
from tests.helpers.tiny_questions import in_memory, item, predict_settings
from tests.helpers.tiny_training import talkative_model

pytestmark = pytest.mark.slow

BATCH = 2
# Prediction that dies by SIGKILL when it is asked its batch number {after}.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from parrot.evaluate.model_source import trained
from parrot.evaluate.parrot_predictor import ParrotPredictor
from parrot.evaluate.predict import predict
from parrot.config.stages import PredictSettings

folder, after = Path(sys.argv[1]), int(sys.argv[2])
generate, asked = ParrotPredictor.generate, []
def counted(self, items):
    asked.append(items)
    if len(asked) == after:
        os.kill(os.getpid(), signal.SIGKILL)
    return generate(self, items)
ParrotPredictor.generate = counted
settings = PredictSettings.model_validate_json((folder / "settings.json").read_text())
predict(settings, trained(folder / "model", torch.float32), folder / "out", folder / "work", 2)
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


def predicted_items(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    found: list[Item] = []
    generate = ParrotPredictor.generate
    monkeypatch.setattr(ParrotPredictor, "generate", lambda self, items: found.extend(items) or generate(self, items))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_killed_and_asked_again_it_repeats_one_batch_at_most(saved, settings, tmp_path, monkeypatch):
    whole = partial(predict, settings, trained(saved, torch.float32))
    whole(tmp_path / "whole", tmp_path / "elsewhere", BATCH)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "8"])
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (journal,) = (tmp_path / "work/predict").glob("*/*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])  # the last line was on its way
    asked = predicted_items(monkeypatch)
    whole(tmp_path / "out", tmp_path / "work", BATCH)
    assert len(asked) == len(set(map(id, asked))) == 49 - 6 * BATCH
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not list((tmp_path / "work/predict").iterdir())


def test_a_restart_sees_the_images_of_what_is_left_alone(built, settings, tmp_path, monkeypatch):
    generate, encode, seen = ParrotPredictor.generate, ParrotPredictor.encode_images, []
    batches = iter(range(18))  # 35 of the questions are about images, and asked first

    def interrupted(predictor, items):
        if next(batches) == 17:
            raise KeyboardInterrupt
        return generate(predictor, items)

    monkeypatch.setattr(ParrotPredictor, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", BATCH)
    monkeypatch.setattr(ParrotPredictor, "generate", generate)
    monkeypatch.setattr(
        ParrotPredictor, "encode_images", lambda self, images, batch: seen.extend(images) or encode(self, images, batch)
    )
    predict(settings, in_memory(built), tmp_path / "out", tmp_path / "work", BATCH)
    assert len(seen) == 1


def test_answers_to_other_questions_or_of_another_model_are_not_taken_up(saved, settings, tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "8"])
    model, processor = load_parrot(saved)
    with torch.no_grad():
        model.lm_head.weight[3] += 0.1
    for part in (model, processor):
        part.save_pretrained(tmp_path / "other")
    asked = predicted_items(monkeypatch)
    predict(settings, trained(tmp_path / "other", torch.float32), tmp_path / "a", tmp_path / "work", BATCH)
    assert len(asked) == 49
    table = read_tsv(tmp_path / "MMMB_en.tsv")
    table.loc[0, "question"] = "Which colour is it?"
    write_tsv(table, tmp_path / "MMMB_en.tsv")
    asked.clear()
    predict(settings, trained(saved, torch.float32), tmp_path / "b", tmp_path / "work", BATCH)
    assert len(asked) == 49


def test_two_processes_write_the_same_answers(saved, settings, tmp_path, monkeypatch):
    source = trained(saved, torch.float32)
    predict(settings, source, tmp_path / "one", tmp_path / "work", BATCH)
    monkeypatch.setattr("parrot.model.checkpoint.pretrained", lambda *_: pytest.fail("the parent loaded the model"))
    predict(settings, source, tmp_path / "two", tmp_path / "work", BATCH, processes=2)
    for name in contents(tmp_path / "one").keys() - {"manifest.json"}:
        one, two = read_tsv(tmp_path / "one" / name), read_tsv(tmp_path / "two" / name)
        assert one.drop(columns="router_weights").equals(two.drop(columns="router_weights"))


def load_and_answer_slowly(folder: Path) -> ParrotPredictor:
    """The model of `folder`, which takes minutes for a prediction."""
    predictor = ParrotPredictor(*load_parrot(folder))
    predictor.model.register_forward_pre_hook(lambda *_: time.sleep(120))
    return predictor


def test_what_is_wrong_in_one_of_two_processes_is_one_line_and_ends_the_other(saved, settings, tmp_path, capfd):
    table = read_tsv(tmp_path / "MMMB_en.tsv")
    table.loc[3, "image"] = "A" * 100
    write_tsv(table, tmp_path / "MMMB_en.tsv")
    source = replace(trained(saved, torch.float32), load=partial(load_and_answer_slowly, saved))
    with pytest.raises(UserError, match=r"MMMB_en.tsv: row 3: image cannot be decoded") as caught:
        predict(settings, source, tmp_path / "out", tmp_path / "work", BATCH, 2)
    assert "\n" not in str(caught.value)
    assert multiprocessing.active_children() == []
    assert [line for line in capfd.readouterr().err.splitlines() if "questions/s" not in line] == []


def test_a_cache_gives_back_what_it_was_given(tmp_path):
    given = {7: Generation([1, 2], "eos", [0.1, 0.9]), 2: Generation([], "length", [])}
    PredictionCache(tmp_path, "0").add(list(given), list(given.values()))
    PredictionCache(tmp_path, "1").add([4], [Generation([3])])
    assert PredictionCache(tmp_path, "5").generations == given | {4: Generation([3])}


def test_processes_read_the_items_that_their_parent_wrote(tmp_path):
    beams = GenerationSettings(3, num_beams=2, length_penalty=-1.0)
    items = [item("çay?", "a" * 50), Item("both", ("a" * 50, "b"), "row 2", beams, None, "other", ("x", "y"))]
    write_items(items, tmp_path / "items.json")
    assert read_items(tmp_path / "items.json") == items
    assert (tmp_path / "items.json").read_text().count("a" * 50) == 1


def test_equal_files_are_one_model_wherever_they_lie_and_other_settings_are_another(saved, tmp_path):
    digest = trained(saved, torch.float32).sha256()
    saved.rename(tmp_path / "moved")
    assert trained(tmp_path / "moved", torch.float32).sha256() == digest
    config = tmp_path / "moved/config.json"
    config.write_text(config.read_text().replace('"moe_weight": 0.1', '"moe_weight": 0.2'))
    assert trained(tmp_path / "moved", torch.float32).sha256() != digest


def test_shards_hold_every_question_once_and_every_image_in_one_place():
    random = np.random.default_rng(0)
    names = [None if n % 7 == 0 else f"p{random.integers(20)}" for n in range(200)]
    items = [item(f"{n}", name, limit=4 + n % 2) for n, name in enumerate(names)]
    lengths = random.integers(5, 90, 200).tolist()
    mine = shards(items, lengths, batch=8, images_at_once=4, processes=3)
    assert sorted(place for part in mine for shard in part for places in shard.batches for place in places) == list(
        range(200)
    )
    seen = [name for part in mine for shard in part for name in shard.images]
    assert sorted(seen) == sorted({name for name in names if name})
    for part in mine:
        for shard in part:
            assert len(shard.images) <= 5
            for places in shard.batches:
                assert len(places) <= 8
                assert len({(names[p] is None, items[p].generation.max_new_tokens) for p in places}) == 1
                assert [lengths[p] for p in places] == sorted((lengths[p] for p in places), reverse=True)
                assert {names[p] for p in places} - {None} <= set(shard.images)
    costs = [
        sum(
            lengths[p] + items[p].generation.max_new_tokens
            for shard in part
            for places in shard.batches
            for p in places
        )
        for part in mine
    ]
    assert max(costs) <= 1.05 * min(costs)
