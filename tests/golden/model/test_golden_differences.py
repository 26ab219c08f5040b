"""Where the model differs from the released code on purpose: what happens there, and what happens here.

docs/differences.md says why.
"""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from PIL import Image

from parrot.model.build import trainable
from tests.golden.model.edges import edge, recorded
from tests.golden.model.reference import (
    EMBEDDINGS,
    IGNORED,
    close,
    embedded,
    expand,
    expanded,
    pixels,
    read_json,
    read_tensors,
)
from tests.golden.model.released_way import guide

UNCACHED = "output_ids_without_cache_router_sees_generated"


@pytest.fixture(scope="module")
def model(load):
    return load("main")


@pytest.fixture(scope="module")
def four(load_case):
    return load_case("b4")


def test_second_image_of_a_sample(folder, model, processor, four):
    """There: zeros. Here: guided like the first."""
    batch, images, _ = edge(folder, "two_images", model, four)
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


def test_end_of_text_typed_in_a_text(folder, model, processor, four):
    """There: left out, since it is the padding's token. Here: a token like others, and only padding is padding."""
    batch, images, _ = edge(folder, "eot_inside", model, four)
    typed = ~batch["attention_mask"][0]
    assert typed.any()
    expected = recorded(folder, "eot_inside")["inputs_embeds"][0]

    whole = {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}
    inputs = expanded(whole, processor)
    found = embedded(model, inputs, images[:1])[0]
    is_typed = inputs["input_ids"][0] == processor.tokenizer.pad_token_id
    assert len(found) == len(expected) + int(typed.sum())
    assert torch.equal(found[is_typed], model.get_input_embeddings().weight[inputs["input_ids"][0][is_typed]])
    is_image = inputs["input_ids"][0] == processor.image_token_id
    close(found[~is_typed & ~is_image], expected[~is_image[~is_typed]], EMBEDDINGS)


def test_a_prompt_with_end_of_text_is_read_whole(processor):
    prompt = processor.format_prompt(f"What does {processor.tokenizer.pad_token} mean?")
    inputs = processor(text=[prompt, prompt * 2], padding=True, return_tensors="pt", add_special_tokens=False)
    assert inputs["attention_mask"].sum(1).tolist() == [len(processor.encode(prompt)), inputs["input_ids"].shape[1]]


def test_text_alone_takes_no_image(folder, model, load_case):
    """There: a blank image for each, routed for nothing. Here: images are those that there are."""
    stated = read_json(folder / "results.json")["variants"]["main"]
    samples = read_json(folder / "data.json")
    blank = [
        read_tensors(folder / "pixels.safetensors").get(f"dataset.{sample['id']}")
        for sample in samples
        if "image" not in sample
    ]
    assert all((image == 0).all() for image in blank if image is not None)
    case = load_case("b4")
    assert stated["b4.moe_calls"] == len(case.slots) > case.with_image.sum()
    with torch.no_grad():
        assert len(model(**case.model_inputs).router_weights) == case.with_image.sum()
        with pytest.raises(ValueError, match="image tokens and images do not match: 4 image"):
            model(**case.inputs, pixel_values=case.slots)


def test_a_batch_of_text_alone_still_gives_every_parameter_a_gradient(model, load_case):
    """Of zero for projector, router and experts, there and here; here without an image in the batch."""
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
        image = pixels(Image.open(folder / "images" / asked["image"]), processor)[None]
        prompt, _ = expand(asked["input_ids"], asked["input_ids"], processor)
        ids = list(prompt)
        for _ in asked[UNCACHED]:
            with torch.no_grad():
                logits = model(torch.tensor([ids]), pixel_values=image).logits
            ids.append(int(logits[0, -1].argmax()))
        assert ids[len(prompt) :] == asked[UNCACHED]
        options = {"max_new_tokens": len(asked["output_ids"]), "do_sample": False, "use_cache": False}
        found = model.generate(torch.tensor([prompt]), pixel_values=image, **options)
        assert found[0, len(prompt) :].tolist() == asked["output_ids"]


def test_more_images_than_the_text_has(folder, model, processor, four):
    """There: what is left over is ignored, and samples may show the wrong image. Here: an error."""
    batch, images, _ = edge(folder, "more_images_than_samples", model, four)
    inputs = expanded(batch, processor)
    expected = recorded(folder, "more_images_than_samples")["inputs_embeds"]
    close(embedded(model, inputs, images[:1]), expected, EMBEDDINGS)
    with pytest.raises(ValueError, match="image tokens and images do not match"):
        model(**inputs, pixel_values=images)
