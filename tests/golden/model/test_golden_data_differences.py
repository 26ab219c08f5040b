"""Where the data differ from the released code's on purpose: what happens there, and what happens here.

docs/differences.md says why.
"""

from __future__ import annotations

import random
import re
from copy import deepcopy

import numpy as np
import pytest
import torch

from parrot.data.collate import Collator
from parrot.data.conversations import load as load_conversations
from parrot.data.images import open_rgb
from parrot.data.samples import fault
from parrot.errors import UserError
from parrot.train.batches import BatchLayout, GlobalBatches
from tests.golden.model.edges import edge, recorded
from tests.golden.model.reference import (
    EMBEDDINGS,
    IGNORED,
    PIXELS,
    RELEASED_IMAGE_TOKEN,
    close,
    conversation_set,
    embedded,
    expand,
    mean_colour,
    pixels,
    read_json,
    read_tensors,
)
from tests.golden.model.released_way import guide, merge

TRUNCATED = "truncate40"


@pytest.fixture(scope="module")
def model(load):
    return load("main")


@pytest.fixture(scope="module")
def four(load_case):
    return load_case("b4")


@pytest.fixture(scope="module")
def names(folder):
    """The samples of `b4`."""
    return read_json(folder / "results.json")["info"]["batches"]["b4"]


def readable(folder, sample):
    return "image" not in sample or (folder / "images" / sample["image"]).is_file()


def test_an_image_that_cannot_be_read(folder, processor, tmp_path):
    """There: the mean colour is trained on. Here: the data set is refused, unless the loss is accepted by name."""
    samples = read_json(folder / "data.json")
    lost = [sample for sample in samples if not readable(folder, sample)]
    assert lost
    for sample in lost:
        expected = read_tensors(folder / "pixels.safetensors")[f"dataset.{sample['id']}"]
        close(pixels(mean_colour(processor), processor), expected, PIXELS)
    missing = re.escape(f"{lost[0]['image']} is missing")
    with pytest.raises(UserError, match=f"sample {re.escape(lost[0]['id'])}: image: .*{missing}"):
        load_conversations((conversation_set(folder, folder / "images"),), processor, tmp_path, 2048)
    accepted = conversation_set(folder, folder / "images", tuple(sample["id"] for sample in lost))
    assert len(load_conversations((accepted,), processor, tmp_path, 2048)) == len(samples) - len(lost)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("edge_image_in_gpt", "image_mark_misplaced"),
        ("edge_gpt_first", "turn_order"),
        ("edge_human_trailing_space", "blank_turn"),
    ],
)
def test_a_faulty_sample(folder, name, kind):
    """There: trained on, `<image>` in an answer as an image that nobody gave. Here: refused, or left out by count."""
    (case,) = (case for case in read_json(folder / "formatter.json") if case.get("id") == name)
    assert any(label != IGNORED for label in case["labels"])
    if name == "edge_image_in_gpt":
        assert RELEASED_IMAGE_TOKEN in case["input_ids"]
    image = {"image": "a.png"} if name == "edge_human_trailing_space" else {}
    found = fault({"id": name, "conversations": case["conversations"], **image})
    assert found is not None
    assert found.kind == kind


@torch.no_grad()
def test_what_is_cut_off(folder, model, processor, four, names, rows):
    """There: the router reads questions that the language model does not see any more. Here: what is left of them."""
    _, images, options = edge(folder, TRUNCATED, model, four)
    limit, expected = options["max_length"], recorded(folder, TRUNCATED)["inputs_embeds"]
    ids, labels, mask = (four.inputs[name] for name in ("input_ids", "labels", "attention_mask"))
    is_image = ids == processor.image_token_id
    text = model.get_input_embeddings()(ids.masked_fill(is_image, 0))
    questions = mask.bool() & (labels == IGNORED) & ~is_image
    whole = [index for index in range(len(names)) if not is_image[index, limit:].any()]
    for index in whole:
        inputs = Collator(processor, "text", limit)([rows[names[index]]])
        found = embedded(model, {name: value for name, value in inputs.items() if name != "ids"})[0]
        visible = is_image[index, : len(found)]
        there = expected[index, : len(found)]
        close(found[~visible], there[~visible], EMBEDDINGS)
        if four.with_image[index]:
            visual = model.get_image_features(images[index : index + 1]).pooler_output
            one = slice(index, index + 1)
            close(there[visible], guide(model, visual, text[one], questions[one])[0], EMBEDDINGS)
            close(found[visible], guide(model, visual, text[one, :limit], questions[one, :limit])[0], EMBEDDINGS)


def test_a_cut_through_an_image(folder, model, processor, four, names, rows):
    """There: the rest of the image is lost. Here: the sample is refused."""
    index = int(four.with_image.nonzero()[0])
    limit = int((four.inputs["input_ids"][index] == processor.image_token_id).nonzero()[0]) + 1
    batch, images, _ = edge(folder, TRUNCATED, model, four)
    assert merge(model, batch, images, max_length=limit).inputs_embeds.shape[1] == limit
    with pytest.raises(UserError, match=f"its visual tokens do not fit into max_length {limit}"):
        Collator(processor, "text", limit)([rows[names[index]]])


def test_an_image_that_is_none(tmp_path):
    """As a file that is missing: there the mean colour, here an error."""
    path = tmp_path / "broken.png"
    path.write_text("no image")
    with pytest.raises(UserError, match="^here: image cannot be decoded: unknown format$"):
        open_rgb(path, "here: image")


def test_the_callers_conversation(folder, processor):
    """There: the default system turn is put into the caller's list. Here: the list stays as it was."""
    cases = [case for case in read_json(folder / "formatter.json") if "conversations_after_call" in case]
    assert any(case["conversations_after_call"] != case["conversations"] for case in cases)
    for case in cases:
        given = deepcopy(case["conversations"])
        processor.encode_turns(given)
        assert given == case["conversations"]
        added = len(case["conversations_after_call"]) - len(given)
        assert case["conversations_after_call"][added:] == given
        assert added == (given[0]["from"] != "system")


def test_order_of_the_data(folder):
    """There: the same order in every run. Here: by the run's seed, and another one every epoch."""
    stated = read_json(folder / "dataset.json")
    order = [sample["id"] for sample in read_json(folder / "data.json")]
    shuffled = random.Random(42)
    for _ in range(10):
        shuffled.shuffle(order)
    assert order == stated["order_after_shuffle"] == [item["id"] for item in stated["items"]]
    count = len(order)
    ours = [list(GlobalBatches(np.ones(count), 1, 2 * count, seed, BatchLayout(1))) for seed in (0, 1)]
    orders = {tuple(batches[start : start + count]) for batches in ours for start in (0, count)}
    assert len(orders) == 4
    assert all(sorted(one) == list(range(count)) for one in orders)


def test_lengths(folder, processor, rows):
    """There: words between blanks, which Chinese has none of, and 128 for an image. Here: tokens."""
    stated = read_json(folder / "dataset.json")
    samples = {sample["id"]: sample for sample in read_json(folder / "data.json")}
    names = stated["order_after_shuffle"]
    words = [sum(len(turn["value"].split()) for turn in samples[name]["conversations"]) for name in names]
    with_image = ["image" in samples[name] for name in names]
    assert stated["lengths"] == [count + 128 * has for count, has in zip(words, with_image, strict=True)]
    assert stated["modality_lengths"] == [
        count if has else -count for count, has in zip(words, with_image, strict=True)
    ]
    tokens = {item["id"]: expand(item["input_ids"], item["labels"], processor)[0] for item in stated["items"]}
    assert {name: row["length"] for name, row in rows.items()} == {name: len(ids) for name, ids in tokens.items()}
