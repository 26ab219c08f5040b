"""Ways to generate: sampling, beams, drafts, embeddings, kept caches. Greedy decoding is in test_generate.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, GenerationMixin

from parrot.model import ParrotForConditionalGeneration
from tests.helpers.tiny_model import IMAGE_TOKEN, STEPS, collate, generate, images, row, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def batch() -> dict[str, Any]:
    """Two images, none, one."""
    rows = [row(5, "image", 4, "image", 3, seed=1), row(12, seed=2), row(3, "image", 2, seed=3)]
    return {**collate(rows, "left"), "pixel_values": images(3)}


@pytest.fixture
def one() -> dict[str, Any]:
    return {**collate([row(5, "image", 9, seed=1)]), "pixel_values": images(1)}


def test_generation_is_transformers_own():
    assert issubclass(ParrotForConditionalGeneration, GenerationMixin)
    assert ParrotForConditionalGeneration.generate is GenerationMixin.generate


def test_what_generation_returns(batch):
    model = tiny_model()
    model.set_attn_implementation("eager")
    asked = {"output_scores": True, "output_logits": True, "output_hidden_states": True, "output_attentions": True}
    result = model.generate(
        **batch, max_new_tokens=STEPS, do_sample=False, pad_token_id=0, return_dict_in_generate=True, **asked
    )
    length = batch["input_ids"].shape[1]
    assert result.sequences.shape == (3, length + STEPS)
    assert len(result.scores) == len(result.logits) == len(result.hidden_states) == len(result.attentions) == STEPS
    assert result.logits[0].shape == (3, 300)
    assert [layer.shape for layer in result.hidden_states[0]] == [(3, length, 16)] * 3
    assert [layer.shape for layer in result.attentions[1]] == [(3, 4, 1, length + 1)] * 2
    assert result.past_key_values.get_seq_length() == length + STEPS - 1
    assert torch.equal(torch.stack(result.logits, 1).argmax(-1), result.sequences[:, length:])


def test_samples_of_a_row_see_its_images(model, batch):
    """With one token to choose from, three samples of each row are three times its greedy answer."""
    greedy = generate(model, batch)
    output = model.generate(
        **batch, max_new_tokens=STEPS, do_sample=True, top_k=1, num_return_sequences=3, pad_token_id=0
    )
    assert output[:, -STEPS:].tolist() == [answer for answer in greedy for _ in range(3)]


def test_sampling_follows_the_seed(model, batch):
    answers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        answers.append(model.generate(**batch, max_new_tokens=STEPS, do_sample=True, pad_token_id=0))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("sample", [False, True])
def test_beams_without_a_cache(model, batch, sample):
    answers = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        options = {"num_beams": 4, "num_return_sequences": 2, "do_sample": sample, "use_cache": use_cache}
        answers.append(model.generate(**batch, max_new_tokens=STEPS, pad_token_id=0, **options))
    assert answers[0].shape == (6, batch["input_ids"].shape[1] + STEPS)
    assert torch.equal(*answers)


def test_drafts_from_the_prompt_change_nothing(model, one):
    assert generate(model, one, prompt_lookup_num_tokens=3) == generate(model, one)


def test_drafts_of_an_assistant_change_nothing(model, one):
    expected, seen = generate(model, one), []
    assistant = tiny_model(seed=5)
    assistant.model.register_forward_hook(lambda module, args, output: seen.append(output.router_weights))
    assert generate(model, one, assistant_model=assistant) == expected
    assert generate(model, one, assistant_model=tiny_model()) == expected
    with torch.no_grad():
        routed = assistant(**one).router_weights
    torch.testing.assert_close(seen[0], routed)  # the assistant saw the image


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"use_cache": False}, {"cache_implementation": "static"}], ids=str
)
def test_embeddings_give_what_their_ids_give(batch, options):
    model = tiny_model(image_token_id=7)
    batch["input_ids"] = batch["input_ids"].masked_fill(batch["input_ids"] == IMAGE_TOKEN, 7)
    expected = generate(model, batch, **options)
    embeds = model.get_input_embeddings()(batch.pop("input_ids"))
    output = model.generate(
        **batch, inputs_embeds=embeds, max_new_tokens=STEPS, do_sample=False, pad_token_id=0, **options
    )
    assert output.tolist() == expected


def test_a_kept_cache_goes_on(model, one):
    expected = generate(model, one)
    half = model.generate(
        **one, max_new_tokens=STEPS // 2, do_sample=False, pad_token_id=0, return_dict_in_generate=True
    )
    rest = {"input_ids": half.sequences, "attention_mask": torch.ones_like(half.sequences)}
    output = model.generate(
        **rest, past_key_values=half.past_key_values, max_new_tokens=STEPS // 2, do_sample=False, pad_token_id=0
    )
    assert output[:, -STEPS:].tolist() == expected


def test_a_cache_that_was_filled_by_hand(model, one):
    cache = DynamicCache(config=model.config.text_config)
    with torch.no_grad():
        model(**one, past_key_values=cache)
        logits = model(one["input_ids"][:, -1:], past_key_values=cache).logits
        twice = {**one, "input_ids": torch.cat([one["input_ids"], one["input_ids"][:, -1:]], 1)}
        twice["attention_mask"] = torch.ones_like(twice["input_ids"])
        mask = torch.arange(twice["input_ids"].shape[1])[None] < one["input_ids"].shape[1]
        whole = model(**twice, router_mask=mask).logits
    torch.testing.assert_close(logits[:, -1], whole[:, -1], rtol=1e-4, atol=1e-5)
