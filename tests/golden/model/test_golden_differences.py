"""Where this project differs from the released code on purpose: what happens there, and what happens here.

docs/differences.md says why.
"""

from __future__ import annotations

import random
from copy import deepcopy

import numpy as np
import pytest
import torch
from edges import edge, recorded
from PIL import Image
from reference import (
    EMBEDDINGS,
    IGNORED,
    PIXELS,
    close,
    expand,
    expanded,
    language_model_inputs,
    mean_colour,
    pixels,
    read_json,
    read_tensors,
)
from released_way import guide

from parrot.config import ConfigError, ConversationSet
from parrot.data.conversations import load as load_conversations
from parrot.model.build import trainable
from parrot.train.order import GlobalBatches

UNCACHED = "output_ids_without_cache_router_sees_generated"


@pytest.fixture(scope="module")
def model(load):
    return load("main")


@pytest.fixture(scope="module")
def cases(load_case):
    return {batch: load_case(batch) for batch in ("b4", "b1")}


@torch.no_grad()
def embedded(model, inputs, pictures):
    with language_model_inputs(model) as seen:
        model(**inputs, pixel_values=pictures)
    return seen["inputs_embeds"]


def test_second_picture_of_a_sample(folder, model, processor, cases):
    """There: zeros. Here: guided like the first."""
    batch, images, _ = edge(folder, "two_images", cases)
    inputs = expanded(batch, processor)
    is_image = inputs["input_ids"][0] == processor.image_token_id
    expected = recorded(folder, "two_images")["inputs_embeds"][0]
    first, second = expected[is_image].chunk(2)
    assert first.abs().max() > 0
    assert (second == 0).all()

    found = embedded(model, inputs, images[:2])[0]
    close(found[~is_image], expected[~is_image], EMBEDDINGS)
    close(found[is_image].chunk(2)[0], first, EMBEDDINGS)
    with torch.no_grad():
        visual = model.get_image_features(images[1:2]).pooler_output
        text = model.get_input_embeddings()(inputs["input_ids"][:, ~is_image])
        guided = guide(model, visual, text, inputs["labels"][:, ~is_image] == IGNORED)[0]
    close(found[is_image].chunk(2)[1], guided, EMBEDDINGS)


def test_end_of_text_typed_in_a_text(folder, model, processor, cases):
    """There: left out, since it is the padding's token. Here: a token like others, and only padding is padding."""
    batch, images, _ = edge(folder, "eot_inside", cases)
    typed = ~batch["attention_mask"][0]
    assert typed.any()
    expected = recorded(folder, "eot_inside")["inputs_embeds"][0]

    whole = {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}
    inputs = expanded(whole, processor)
    found = embedded(model, inputs, images)[0]
    is_typed = inputs["input_ids"][0] == processor.tokenizer.pad_token_id
    assert len(found) == len(expected) + int(typed.sum())
    assert torch.equal(found[is_typed], model.get_input_embeddings().weight[inputs["input_ids"][0][is_typed]])
    is_image = inputs["input_ids"][0] == processor.image_token_id
    close(found[~is_typed & ~is_image], expected[~is_image[~is_typed]], EMBEDDINGS)


def test_a_prompt_with_end_of_text_is_read_whole(processor):
    prompt = processor.format_prompt(f"What does {processor.tokenizer.pad_token} mean?")
    inputs = processor(text=[prompt, prompt * 2], padding=True, return_tensors="pt", add_special_tokens=False)
    assert inputs["attention_mask"].sum(1).tolist() == [len(processor.encode(prompt)), inputs["input_ids"].shape[1]]


def test_text_alone_takes_no_picture(folder, model, load_case):
    """There: a blank picture for each, routed for nothing. Here: pictures are those that there are."""
    stated = read_json(folder / "results.json")["variants"]["main"]
    samples = read_json(folder / "data.json")
    blank = [
        read_tensors(folder / "pixels.safetensors").get(f"dataset.{sample['id']}")
        for sample in samples
        if "image" not in sample
    ]
    assert all((picture == 0).all() for picture in blank if picture is not None)
    case = load_case("b4")
    assert stated["b4.moe_calls"] == len(case.slots) > case.pictured.sum()
    with torch.no_grad():
        assert len(model(**case.model_inputs).router_weights) == case.pictured.sum()
        with pytest.raises(ValueError, match="image tokens and pictures do not match: 4 picture"):
            model(**case.inputs, pixel_values=case.slots)


def test_a_batch_of_text_alone_still_gives_every_parameter_a_gradient(model, load_case):
    """Of zero for projector, router and experts, there and here; here without a picture in the batch."""
    copy = deepcopy(model).train()
    trainable(copy, "tune")
    copy(**load_case("text").inputs).loss.backward()
    for part in (copy.model.multi_modal_projector, copy.model.expert_block):
        assert all((parameter.grad == 0).all() for parameter in part.parameters())


def test_decoding_without_a_cache(folder, model, processor):
    """There: every step routes on the answer so far too. Here: the prompt alone decides, as with a cache."""
    questions = [asked for asked in read_json(folder / "generation.json") if UNCACHED in asked]
    assert questions
    for asked in questions:
        picture = pixels(Image.open(folder / "images" / asked["image"]), processor)[None]
        prompt, _ = expand(asked["input_ids"], asked["input_ids"], processor)
        ids = list(prompt)
        for _ in asked[UNCACHED]:
            with torch.no_grad():
                logits = model(torch.tensor([ids]), pixel_values=picture).logits
            ids.append(int(logits[0, -1].argmax()))
        assert ids[len(prompt) :] == asked[UNCACHED]
        ids = list(prompt)
        for _ in asked["output_ids"]:
            with torch.no_grad():
                router_mask = torch.arange(len(ids))[None] < len(prompt)
                logits = model(torch.tensor([ids]), pixel_values=picture, router_mask=router_mask).logits
            ids.append(int(logits[0, -1].argmax()))
        assert ids[len(prompt) :] == asked["output_ids"]


def readable(folder, sample):
    return "image" not in sample or (folder / "images" / sample["image"]).is_file()


def conversation_set(folder, lost=()):
    return ConversationSet(
        kind="conversations",
        file=str(folder / "data.json"),
        images=str(folder / "images"),
        accepted_losses=lost,
        licence="-",
        source="local",
    )


def test_a_picture_that_cannot_be_read(folder, processor, tmp_path):
    """There: the mean colour is trained on. Here: the data set is refused, unless the loss is accepted by name."""
    samples = read_json(folder / "data.json")
    lost = [sample for sample in samples if not readable(folder, sample)]
    assert lost
    for sample in lost:
        expected = read_tensors(folder / "pixels.safetensors")[f"dataset.{sample['id']}"]
        close(pixels(mean_colour(processor), processor), expected, PIXELS)
    with pytest.raises(ConfigError, match=f"sample {lost[0]['id']}: image: .*{lost[0]['image']} is missing"):
        load_conversations((conversation_set(folder),), processor, tmp_path)
    accepted = conversation_set(folder, tuple(sample["id"] for sample in lost))
    assert len(load_conversations((accepted,), processor, tmp_path)) == len(samples) - len(lost)


def test_more_pictures_than_the_text_has(folder, model, processor, cases):
    """There: what is left over is ignored, and samples may show the wrong picture. Here: an error."""
    batch, images, _ = edge(folder, "more_images_than_samples", cases)
    inputs = expanded(batch, processor)
    expected = recorded(folder, "more_images_than_samples")["inputs_embeds"]
    close(embedded(model, inputs, images[:1]), expected, EMBEDDINGS)
    with pytest.raises(ValueError, match="image tokens and pictures do not match"):
        model(**inputs, pixel_values=images)


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
    ours = [list(GlobalBatches(np.ones(count), 1, steps=2 * count, seed=seed)) for seed in (0, 1)]
    orders = {tuple(batches[start : start + count]) for batches in ours for start in (0, count)}
    assert len(orders) == 4
    assert all(sorted(one) == list(range(count)) for one in orders)


def test_lengths(folder, processor, tmp_path):
    """There: words between blanks, which Chinese has none of, and 128 for a picture. Here: tokens."""
    stated = read_json(folder / "dataset.json")
    samples = {sample["id"]: sample for sample in read_json(folder / "data.json")}
    names = stated["order_after_shuffle"]
    words = [sum(len(turn["value"].split()) for turn in samples[name]["conversations"]) for name in names]
    pictured = ["image" in samples[name] for name in names]
    assert stated["lengths"] == [count + 128 * has for count, has in zip(words, pictured, strict=True)]
    assert stated["modality_lengths"] == [count if has else -count for count, has in zip(words, pictured, strict=True)]
    lost = tuple(name for name in names if not readable(folder, samples[name]))
    rows = load_conversations((conversation_set(folder, lost),), processor, tmp_path)
    tokens = {item["id"]: expand(item["input_ids"], item["labels"], processor)[0] for item in stated["items"]}
    assert {row["id"]: row["length"] for row in rows} == {name: len(tokens[name]) for name in names if name not in lost}
