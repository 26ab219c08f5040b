"""The parts of training: sample order, batches, checkpoints, records, data sets."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from parrot.config.hardware import accumulation_steps
from parrot.data.collate import Collator, count_truncated
from parrot.data.conversations import load
from parrot.errors import UserError
from parrot.model import ParrotImageProcessor, ParrotProcessor
from parrot.train.batches import BatchLayout, GlobalBatches, arrange_micro_batches, optimiser_steps
from parrot.train.callbacks import Progress
from parrot.train.checkpoints import keep_metrics, latest_complete, latest_valid, mark_complete, restore_metrics
from parrot.train.provenance import data_pins
from tests.helpers.tiny_training import recipe, write_backbones, write_set


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    write_backbones(folder)
    images = ParrotImageProcessor.from_pretrained(folder / "clip")
    return ParrotProcessor(images, AutoTokenizer.from_pretrained(folder / "qwen"), num_image_tokens=5)


# --- order -----------------------------------------------------------------------------------------------------------


def test_a_global_batch_is_accumulated_from_micro_batches():
    assert accumulation_steps(256, micro_batch=4, processes=16) == 4
    assert accumulation_steps(48, micro_batch=48, processes=1) == 1


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [((48, 10, 1), "8 and 12"), ((48, 96, 1), "48"), ((128, 5, 8), "4 and 8"), ((7, 3, 1), "1 and 7")],
)
def test_a_micro_batch_that_does_not_divide_is_refused_with_the_nearest_that_do(arguments, nearest):
    with pytest.raises(
        UserError, match=rf"does not divide global_batch {arguments[0]}; the nearest that do: {nearest}$"
    ):
        accumulation_steps(*arguments)


def test_processes_that_do_not_divide_the_global_batch_are_refused():
    with pytest.raises(UserError, match="global_batch 48 cannot be split over 5 processes; .* 4 and 6$"):
        accumulation_steps(48, 1, 5)


def test_steps_are_given_or_counted_from_epochs():
    assert optimiser_steps(recipe(max_steps=7), 1000) == 7
    assert optimiser_steps(recipe(max_steps=None, epochs=1, global_batch=128), 665_298) == 5198


def test_every_sample_is_seen_once_an_epoch_and_batches_go_from_short_to_long():
    lengths = np.random.default_rng(0).integers(1, 100, 24)
    order = list(GlobalBatches(lengths, 8, steps=6, seed=1, micro=BatchLayout(4)))
    assert len(order) == 48
    assert sorted(order[:24]) == sorted(order[24:]) == list(range(24))
    assert order[:24] != order[24:]
    for start in range(0, 48, 8):
        batch = lengths[order[start : start + 8]]
        assert list(batch) == sorted(batch)


def test_the_order_is_the_seeds():
    lengths = np.ones(24, int)
    first, same, other = (list(GlobalBatches(lengths, 8, 3, seed, BatchLayout(2))) for seed in (1, 1, 2))
    assert first == same != other


def test_there_is_no_drawing_from_nothing():
    with pytest.raises(AssertionError, match="sets without samples are refused"):
        GlobalBatches(np.ones(0, int), 8, steps=1, seed=1, micro=BatchLayout(4))


@pytest.mark.parametrize(
    "micro", [BatchLayout(4), BatchLayout(2, processes=4), BatchLayout(4, packed=True), BatchLayout(2, 2, packed=True)]
)
def test_the_layout_leaves_a_global_batch_s_samples_as_they_are(micro):
    lengths = np.random.default_rng(0).integers(1, 100, 24)
    plain = list(GlobalBatches(lengths, 8, 6, 1, BatchLayout(8)))
    other = list(GlobalBatches(lengths, 8, 6, 1, micro))
    for start in range(0, 48, 8):
        assert sorted(other[start : start + 8]) == sorted(plain[start : start + 8])


def test_processes_take_turns_with_the_longer_micro_batch():
    lengths = np.arange(10, 22)
    places = arrange_micro_batches(lengths, np.arange(12), BatchLayout(2, processes=2))
    rounds = lengths[places].reshape(3, 2, 2).tolist()
    assert rounds == [[[10, 11], [12, 13]], [[16, 17], [14, 15]], [[18, 19], [20, 21]]]


def test_packed_micro_batches_have_about_as_many_tokens_each():
    lengths = np.random.default_rng(0).lognormal(6, 1, 128).astype(int)
    sums = (
        lengths[arrange_micro_batches(lengths, np.arange(128), BatchLayout(8, processes=4, packed=True))]
        .reshape(16, 8)
        .sum(1)
    )
    cut = np.sort(lengths).reshape(16, 8).sum(1)
    assert max(cut) > 20 * min(cut)
    assert max(sums) < 1.1 * min(sums)


# --- data sets and batches -------------------------------------------------------------------------------------------


def test_sets_are_joined_and_keep_language_and_id(processor, tmp_path):
    english, chinese = write_set(tmp_path, "en", count=6), write_set(tmp_path, "zh", "zh", count=3)
    rows = load((english, chinese), processor, tmp_path / "cache", 512)
    assert rows["language"][:] == ["en"] * 6 + ["zh"] * 3
    assert rows["id"][:] == [f"en-{number}" for number in range(6)] + [f"zh-{number}" for number in range(3)]
    first = json.loads((tmp_path / "en.json").read_text())[0]
    ids, labels = processor.format_conversation(first["conversations"])
    assert (rows[0]["input_ids"], rows[0]["labels"], rows[0]["length"]) == (ids, labels, len(ids))
    assert ids.count(processor.image_token_id) == 5
    assert rows[4]["image"] is None


def test_a_set_is_tokenised_once(processor, tmp_path, monkeypatch):
    entry = write_set(tmp_path, "en", count=6)
    load((entry,), processor, tmp_path / "cache", 512)
    (file,) = (tmp_path / "cache").glob("*.arrow")
    written = file.stat().st_mtime_ns
    load((entry,), processor, tmp_path / "cache", 512)
    assert file.stat().st_mtime_ns == written
    write_set(tmp_path, "en", count=7)
    assert len(load((entry,), processor, tmp_path / "cache", 512)) == 7


def test_accepted_losses_are_left_out_and_others_refused(processor, tmp_path):
    entry = write_set(tmp_path, "en", count=6)
    (tmp_path / "images/en-2.png").unlink()
    with pytest.raises(UserError, match=r"en\.json: sample en-2: image: .*images/en-2\.png is missing"):
        load((entry,), processor, tmp_path / "cache", 512)
    accepted = entry.model_copy(update={"accepted_losses": ("en-2",)})
    assert "en-2" not in load((accepted,), processor, tmp_path / "cache", 512)["id"]


def test_an_image_that_became_corrupt_is_named(processor, tmp_path):
    entry = write_set(tmp_path, "en", count=6)
    rows = load((entry,), processor, tmp_path / "cache", 512)
    (tmp_path / "images/en-1.png").write_bytes(b"noise")
    with pytest.raises(UserError, match=r"en\.json: sample en-1: image: .*images/en-1\.png cannot be decoded"):
        Collator(processor, "text", 512)(rows.__getitems__([0, 1]))


def test_batches_are_padded_on_the_right(processor, tmp_path):
    rows = load((write_set(tmp_path, "en", count=6),), processor, tmp_path / "cache", 512).__getitems__([0, 4, 5])
    batch = Collator(processor, "text", 512)(rows)
    assert batch["ids"] == ["en-0", "en-4", "en-5"]
    assert batch["pixel_values"].shape == (2, 3, 16, 16)
    assert batch["input_ids"].shape == (3, max(row["length"] for row in rows))
    for row, ids, labels, readable in zip(rows, batch["input_ids"], batch["labels"], batch["router_mask"], strict=True):
        length = row["length"]
        assert ids[:length].tolist() == row["input_ids"]
        assert set(ids[length:].tolist()) <= {processor.tokenizer.pad_token_id}
        assert labels.tolist() == row["labels"] + [-100] * (len(ids) - length)
        read = [
            label == -100 and token != processor.image_token_id
            for token, label in zip(row["input_ids"], row["labels"], strict=True)
        ]
        assert readable.tolist() == read + [False] * (len(ids) - length)


def test_a_batch_of_text_alone_has_no_images(processor, tmp_path):
    rows = load((write_set(tmp_path, "en", count=6),), processor, tmp_path / "cache", 512)
    assert "pixel_values" not in Collator(processor, "text", 512)(rows.__getitems__([4]))


def test_long_samples_lose_their_end_but_never_visual_tokens(processor, tmp_path):
    rows = load((write_set(tmp_path, "en", count=6),), processor, tmp_path / "cache", 512)
    last_visual = max(i for i, token in enumerate(rows[0]["input_ids"]) if token == processor.image_token_id)
    assert count_truncated(rows, rows[0]["length"] - 1) == sum(length >= rows[0]["length"] for length in rows["length"])
    batch = Collator(processor, "text", last_visual + 1)(rows.__getitems__([0]))
    assert batch["input_ids"].tolist() == [rows[0]["input_ids"][: last_visual + 1]]
    with pytest.raises(UserError, match=rf"sample en-0: its visual tokens do not fit into max_length {last_visual}$"):
        Collator(processor, "text", last_visual)(rows.__getitems__([0]))


# --- checkpoints and records -----------------------------------------------------------------------------------------


def test_only_whole_checkpoints_count(tmp_path):
    for step in (5, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert latest_complete(tmp_path) is None
    for step in (5, 10):
        mark_complete(tmp_path / f"checkpoint-{step}", "ddp", 1, {})
    assert latest_complete(tmp_path) == latest_valid(tmp_path) == tmp_path / "checkpoint-10"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]


def test_metrics_are_put_back_to_those_of_a_checkpoint(tmp_path):
    path, checkpoint = tmp_path / "metrics.jsonl", tmp_path / "checkpoint-2"
    then = '{"step": 1}\n{"step": 2}\n{"step": 2, "eval_loss_en": 1.5}\n'
    path.write_text(then)
    keep_metrics(checkpoint)
    path.write_text(then + '{"step": 3}\n{"step": 4, "lo')
    restore_metrics(tmp_path, checkpoint)
    assert path.read_text() == then
    restore_metrics(tmp_path, None)
    assert path.read_text() == ""


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch):
    now = iter([0.0, 4.0, 12.0, 13.0, 14.0])
    monkeypatch.setattr("parrot.train.callbacks.time.monotonic", lambda: next(now))
    stream = io.StringIO()
    progress = Progress("tune", global_batch=8, stream=stream)
    state = SimpleNamespace(global_step=0, max_steps=4, is_world_process_zero=True)
    progress.on_train_begin(None, state, None)
    for step in (1, 2, 3, 4):
        state.global_step = step
        progress.on_log(None, state, None, logs={"loss": 0.5})
    assert stream.getvalue().splitlines() == [
        "tune: step 2 of 4, loss 0.5000, 1 samples/s, 00:12 left",
        "tune: step 4 of 4, loss 0.5000, 2 samples/s, 00:00 left",
    ]


def test_data_pins_are_those_that_hold_the_data(tmp_path):
    (tmp_path / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data/mini\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/paper.dvc").write_text("outs:\n- md5: def.dir\n  path: paper\n")
    assert data_pins(["data/mini/sft/sft_en.json", "elsewhere.json"], tmp_path) == {"data.dvc: data/mini": "abc.dir"}
    assert data_pins(["data/paper/x.json"], tmp_path) == {"data/paper.dvc: paper": "def.dir"}


def test_padding_behind_a_sample_changes_nothing(tmp_path):
    from parrot.model.build import build
    from tests.helpers.tiny_training import tune_settings

    write_backbones(tmp_path)
    entry = write_set(tmp_path, "en", count=6)
    model, processor = build(tune_settings(tmp_path, (entry,)))
    rows = load((entry,), processor, tmp_path / "cache", 512).__getitems__(list(range(6)))
    batch = Collator(processor, "text", 512)(rows)
    del batch["ids"]
    mask = torch.tensor([[i < row["length"] for i in range(batch["labels"].shape[1])] for row in rows]).long()
    assert not mask.all()
    with_mask = model(**batch | {"router_mask": None}, attention_mask=mask).loss.item()
    assert model(**batch).loss.item() == pytest.approx(with_mask, rel=1e-6)
