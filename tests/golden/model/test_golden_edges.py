"""Batches that are out of the ordinary: padded on the left, cut off, without a mask or labels, with images inside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parrot.model import ParrotConfig
from tests.golden.model.edges import edge, names, recorded
from tests.golden.model.reference import EMBEDDINGS, IGNORED, LOGITS, close, expanded, language_model_inputs, read_json
from tests.golden.model.released_way import merge


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "merged" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("--golden") / "model"
        metafunc.parametrize("merged", names(folder))


@pytest.fixture(scope="module")
def model(load):
    return load("main")


@pytest.fixture(scope="module")
def four(load_case):
    return load_case("b4")


def test_every_recorded_batch_is_compared(folder):
    merged = {
        "left_pad",
        "truncate40",
        "attention_mask_none",
        "labels_none",
        "mid_image",
        "two_images",
        "eot_inside",
        "more_images_than_samples",
    }
    refused = {"fewer_images_than_tokens", "images_as_list_of_3d", "images_5d", "select_feature_patch"}
    assert set(names(folder)) == merged
    assert read_json(folder / "results.json")["edge"].keys() == merged | refused | {"text_only_images_none"}


def test_the_released_way(folder, model, four, merged):
    """Composed of this model's modules, the released way of merging gives what was recorded."""
    batch, images, options = edge(folder, merged, model, four)
    found = merge(model, batch, images, **options)
    expected = recorded(folder, merged)
    close(found.inputs_embeds, expected["inputs_embeds"], EMBEDDINGS)
    for name in {"attention_mask", "labels", "position_ids"} & expected.keys():
        assert torch.equal(getattr(found, name), expected[name]), name
    stated = read_json(folder / "results.json")["edge"][merged]
    assert stated["moe_calls"] == len(batch["input_ids"])
    # None comes back where None was given.
    assert ("attention_mask" in expected) == (merged != "attention_mask_none")
    assert ("labels" in expected) == (merged != "labels_none")
    types = [str(expected[name].dtype) if name in expected else None for name in ("position_ids", "attention_mask")]
    shapes = [list(expected[name].shape) if name in expected else None for name in ("inputs_embeds", "labels")]
    assert stated["returned"] == [None, *types, *shapes]


@pytest.mark.parametrize("name", ["left_pad", "attention_mask_none", "labels_none", "mid_image"])
@torch.no_grad()
def test_here(folder, model, processor, four, name):
    batch, images, options = edge(folder, name, model, four)
    inputs = expanded(batch, processor, **options)
    with_image = (inputs["input_ids"] == processor.image_token_id).any(1)
    real = inputs["attention_mask"].bool()
    without = {"attention_mask_none": "attention_mask", "labels_none": "labels"}.get(name)
    inputs.pop(without, None)
    with language_model_inputs(model) as seen:
        model(**inputs, pixel_values=images[: len(with_image)][with_image])
    expected = recorded(folder, name)
    assert expected["inputs_embeds"].shape == seen["inputs_embeds"].shape
    close(seen["inputs_embeds"][real], expected["inputs_embeds"][real], EMBEDDINGS)
    if "labels" in inputs:
        assert torch.equal(inputs["labels"], expected["labels"])
    if "attention_mask" in inputs:
        assert torch.equal(seen["attention_mask"].bool(), expected["attention_mask"])
    if "position_ids" in expected:
        assert torch.equal(seen["position_ids"][real], expected["position_ids"][real])


@torch.no_grad()
def test_cut_off(folder, model, processor, four):
    """What is too long is cut on the right; the router can be given the whole prompt, which the released one reads."""
    batch, images, options = edge(folder, "truncate40", model, four)
    limit, whole, expected = options["max_length"], expanded(batch, processor), recorded(folder, "truncate40")
    inputs = {name: value[:, :limit] for name, value in whole.items()}
    assert torch.equal(inputs["labels"], expected["labels"])
    assert torch.equal(inputs["attention_mask"].bool(), expected["attention_mask"])
    is_image = whole["input_ids"] == processor.image_token_id
    fits = ~is_image[:, limit:].any(1)  # an image is cut in two by the released code alone
    with_image = fits & four.with_image
    questions = whole["attention_mask"].bool() & (whole["labels"] == IGNORED) & ~is_image
    routed = {
        "pixel_values": images[with_image],
        "router_input_ids": whole["input_ids"][with_image].masked_fill(is_image[with_image], 0),
        "router_mask": questions[with_image],
    }
    with language_model_inputs(model) as seen:
        model(**{name: value[fits] for name, value in inputs.items()}, **(routed if with_image.any() else {}))
    real = expected["attention_mask"][fits]
    close(seen["inputs_embeds"][real], expected["inputs_embeds"][fits][real], EMBEDDINGS)
    assert torch.equal(seen["position_ids"][real], expected["position_ids"][fits][real])


@torch.no_grad()
def test_padding_on_either_side_gives_the_same_logits(folder, model, processor, four):
    batch, images, _ = edge(folder, "left_pad", model, four)
    rows = []
    for side in ("left", "right"):
        inputs = expanded(batch, processor, side)
        output = model(**inputs, pixel_values=images[four.with_image])
        rows.append(output.logits[inputs["attention_mask"].bool()])
    close(*rows, LOGITS)


@torch.no_grad()
def test_text_without_images(folder, model, processor, load_case):
    """Text comes back as it was given, and is embedded as text alone."""
    stated = read_json(folder / "results.json")["edge"]["text_only_images_none"]
    expected, case = recorded(folder, "text_only_images_none"), load_case("text")
    mask, labels = expected["attention_mask"], expected["labels"]
    assert stated == {"returned": ["input_ids", None, str(mask.dtype), None, list(labels.shape)], "moe_calls": 0}
    with language_model_inputs(model) as seen:
        output = model(**case.inputs)
    assert torch.equal(case.inputs["labels"], labels)
    assert torch.equal(seen["attention_mask"].bool(), mask)
    assert torch.equal(seen["inputs_embeds"], model.get_input_embeddings()(case.inputs["input_ids"]))
    assert output.router_weights is None


def test_images_that_do_not_fit(folder, model, load_case):
    """An error there, and one here."""
    stated = read_json(folder / "results.json")["edge"]
    case = load_case("b4")
    images = case.model_inputs["pixel_values"]
    for name, released, wrong in (
        ("fewer_images_than_tokens", "IndexError", images[:-1]),
        ("images_as_list_of_3d", "AttributeError", list(images)),
        ("images_5d", "AttributeError", images[:, None]),
    ):
        assert stated[name]["error"] == released
        with pytest.raises((ValueError, AttributeError)):
            model(**case.inputs, pixel_values=wrong)


def test_experts_need_the_class_token(folder):
    assert read_json(folder / "results.json")["edge"]["select_feature_patch"]["error"] == "AssertionError"
    with pytest.raises(ValueError, match="^vision_feature_select: patch leaves"):
        ParrotConfig(vision_feature_select="patch", num_experts=2)
