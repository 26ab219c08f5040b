"""Greedy generation: with and without a cache, batched and alone, from pixels and from features."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.tiny_model import STEPS, collate, generate, images, row, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def batch() -> dict[str, Any]:
    rows = [row(5, "image", 9, seed=1), row(12, seed=2), row(3, "image", 2, seed=3)]
    return {**collate(rows, "left"), "pixel_values": images(2)}


@torch.no_grad()
def greedy(model, ids: list[int], pixels: torch.Tensor | None) -> list[int]:
    """One token at a time from full forward passes, the router held on the prompt."""
    prompt = len(ids)
    for _ in range(STEPS):
        tokens = torch.tensor([ids])
        router_mask = torch.arange(len(ids))[None] < prompt
        logits = model(tokens, pixel_values=pixels, router_mask=router_mask).logits
        ids = [*ids, int(logits[0, -1].argmax())]
    return ids[prompt:]


@pytest.mark.parametrize("cache", [{"use_cache": True}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_batched_generation_equals_plain_greedy_decoding(model, batch, cache):
    expected = [
        greedy(model, row(5, "image", 9, seed=1), images(2)[:1]),
        greedy(model, row(12, seed=2), None),
        greedy(model, row(3, "image", 2, seed=3), images(2)[1:]),
    ]
    assert generate(model, batch, **cache) == expected
    assert len({tuple(answer) for answer in expected}) == 3


def test_generation_depends_on_the_image(model, batch):
    other = {**batch, "pixel_values": images(2, seed=7)}
    before, after = generate(model, batch), generate(model, other)
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_generation_from_features(model, batch):
    expected = generate(model, batch)
    features = model.encode_images(batch.pop("pixel_values"))
    assert generate(model, {**batch, "image_features": features}) == expected


def test_beams_keep_images_with_their_samples(model):
    rows = [row(5, "image", 4, "image", 3, seed=1), row(12, seed=2), row(3, "image", 2, seed=3)]
    batch = {**collate(rows, "left"), "pixel_values": images(3)}
    together = generate(model, batch, num_beams=3)
    for index, pixels in [(0, images(3)[:2]), (2, images(3)[2:])]:
        alone = {**collate([rows[index]]), "pixel_values": pixels}
        assert together[index] == generate(model, alone, num_beams=3)[0]


def test_bfloat16_takes_float32_pixels_and_features(batch):
    model = tiny_model().bfloat16()
    features = tiny_model().encode_images(batch["pixel_values"])
    answers = generate(model, batch)
    assert [len(answer) for answer in answers] == [STEPS] * 3
    assert len(generate(model, {**batch, "pixel_values": None, "image_features": features})) == 3
