"""The forward pass: what the router sees, padding, images, text-only samples, loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.helpers.tiny_model import (
    CLOSE,
    IGNORE,
    IMAGE_TOKEN,
    VISUAL_TOKENS,
    collate,
    images,
    labels_of_last,
    row,
    tiny_model,
)


def mixed_rows() -> list[list[int]]:
    """One image with a long prompt, none, one with a short prompt."""
    return [row(5, "image", 9, seed=1), row(12, seed=2), row(3, "image", 4, seed=3)]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_batch_equals_one_by_one(side, attention):
    model = tiny_model()
    model.set_attn_implementation(attention)
    rows, pixels = mixed_rows(), images(2)
    batch = collate(rows, side)
    together = model(**batch, pixel_values=pixels)
    alone = [
        model(torch.tensor(rows[0:1]), pixel_values=pixels[0:1]),
        model(torch.tensor(rows[1:2])),
        model(torch.tensor(rows[2:3]), pixel_values=pixels[1:2]),
    ]
    for index, one in enumerate(alone):
        kept = batch["attention_mask"][index].bool()
        torch.testing.assert_close(together.logits[index][kept], one.logits[0], **CLOSE)
    torch.testing.assert_close(together.router_weights, torch.cat([alone[0].router_weights, alone[2].router_weights]))


@torch.no_grad()
def test_what_stands_at_padding_does_not_matter(model):
    rows = [row(4, "image", 8), row(3, "image", 2)]
    results = [model(**collate(rows, "left", pad), pixel_values=images(2)) for pad in (0, 17)]
    torch.testing.assert_close(results[0].router_weights, results[1].router_weights)
    torch.testing.assert_close(results[0].logits[:, -5:], results[1].logits[:, -5:], **CLOSE)


@torch.no_grad()
def test_in_training_the_router_never_sees_the_answer(model):
    batch = collate([row(5, "image", 9, seed=1)])
    labels = labels_of_last(batch)
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, -2] += 1
    weights = [model(**b, labels=labels, pixel_values=images(1)).router_weights for b in (batch, changed)]
    assert torch.equal(weights[0], weights[1])
    unlabelled = [model(**b, pixel_values=images(1)).router_weights for b in (batch, changed)]
    assert not torch.allclose(unlabelled[0], unlabelled[1])
    prompt_only = model(batch["input_ids"][:, :-3], pixel_values=images(1)).router_weights
    torch.testing.assert_close(weights[0], prompt_only)


@torch.no_grad()
def test_the_router_sees_the_question(model):
    batch = collate([row(5, "image", 9, seed=1)])
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][0, 2] += 1
    labels = labels_of_last(batch)
    weights = [model(**b, labels=labels, pixel_values=images(1)).router_weights for b in (batch, changed)]
    assert (weights[0] - weights[1]).abs().max() > 1e-3


@torch.no_grad()
def test_text_rows_are_the_language_model_alone(model):
    text = row(12, seed=2)
    batch = collate([row(5, "image", 9), text])
    logits = [model(**batch, pixel_values=images(1, seed)).logits[1, :12] for seed in (0, 1)]
    assert torch.equal(logits[0], logits[1])
    hidden = model.model.language_model(torch.tensor([text])).last_hidden_state
    torch.testing.assert_close(logits[0], model.lm_head(hidden)[0], **CLOSE)


@torch.no_grad()
def test_images_reach_the_rows_they_stand_in(model):
    batch = collate([row(5, "image", 9), row(4, seed=1), row(3, "image", 2)])
    first, second = images(2, seed=0), images(2, seed=0)
    second[1] = images(1, seed=5)[0]
    one, two = (model(**batch, pixel_values=p).logits for p in (first, second))
    assert torch.equal(one[0, -1], two[0, -1])
    assert (one[2, VISUAL_TOKENS + 4] - two[2, VISUAL_TOKENS + 4]).abs().max() > 1e-3


@torch.no_grad()
def test_two_images_of_a_sample_are_routed_by_its_text(model):
    ids, pixels = row(3, "image", 4, "image", 2), images(2)
    both = model(**collate([ids, row(5)]), pixel_values=pixels).router_weights
    text_mask = torch.tensor([ids]) != IMAGE_TOKEN
    text = torch.tensor([ids])[text_mask][None]
    for index in range(2):
        alone = torch.cat([text, torch.full((1, VISUAL_TOKENS), IMAGE_TOKEN)], 1)
        expected = model(alone, pixel_values=pixels[index : index + 1]).router_weights[0]
        torch.testing.assert_close(both[index], expected)


@torch.no_grad()
def test_visual_tokens_without_experts_are_the_projection():
    model = tiny_model(num_experts=0)
    ids = torch.tensor([row(3, "image", 4)])
    projected = model.get_image_features(images(1)).pooler_output
    embed = model.get_input_embeddings()
    embeds = torch.cat([embed(ids[:, :3]), projected, embed(ids[:, -4:])], 1)
    hidden = model.model.language_model(inputs_embeds=embeds).last_hidden_state
    output = model(ids, pixel_values=images(1))
    torch.testing.assert_close(output.logits, model.lm_head(hidden), **CLOSE)
    assert output.router_weights is None


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, -2, 0, 1])
def test_encoder_features_are_its_hidden_state(layer):
    model = tiny_model(vision_feature_layer=layer)
    expected = model.model.vision_tower(images(2), output_hidden_states=True).hidden_states[layer]
    torch.testing.assert_close(model.encode_images(images(2)), expected)


@torch.no_grad()
def test_features_encoded_beforehand_give_the_same(model):
    batch = collate(mixed_rows())
    features = model.encode_images(images(2))
    assert features.shape == (2, VISUAL_TOKENS, 12)
    expected = model(**batch, pixel_values=images(2)).logits
    assert torch.equal(model(**batch, image_features=features).logits, expected)


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([row(3, "image", 2)], 2),
        ([row(3, "image", 2)], 0),
        ([row(3, 2)], 1),
        ([row(3, "image", 2), row(4, "image", 1)[:-5]], 2),
        ([row(3, "image", 2)[:-4], row(3, 1) + [IMAGE_TOKEN] * 2 + row(2)], 1),
    ],
)
def test_images_and_image_tokens_must_match(model, rows, count):
    pixels = images(count) if count else None
    with pytest.raises(ValueError, match="image tokens and images do not match"):
        model(**collate(rows), pixel_values=pixels)


@torch.no_grad()
def test_loss_is_the_mean_over_supervised_positions(model):
    batch = collate(mixed_rows())
    labels = labels_of_last(batch)
    output = model(**batch, labels=labels, pixel_values=images(2))
    logits = output.logits[:, :-1].reshape(-1, output.logits.shape[-1])
    expected = F.cross_entropy(logits, labels[:, 1:].reshape(-1), ignore_index=IGNORE)
    torch.testing.assert_close(output.loss, expected)
    accumulated = model(**batch, labels=labels, pixel_values=images(2), num_items_in_batch=torch.tensor(36)).loss
    torch.testing.assert_close(accumulated, expected * 9 / 36)


def test_in_training_only_the_loss_is_computed(model):
    batch = collate(mixed_rows())
    labels = labels_of_last(batch)
    evaluated = model(**batch, labels=labels, pixel_values=images(2)).loss
    trained = tiny_model().train()(**batch, labels=labels, pixel_values=images(2))
    assert trained.logits is None
    torch.testing.assert_close(trained.loss, evaluated)


def test_nothing_to_learn_is_no_loss(model):
    batch = collate(mixed_rows())
    loss = model(**batch, labels=torch.full_like(batch["input_ids"], IGNORE), pixel_values=images(2)).loss
    assert loss.item() == 0


def test_gradient_checkpointing_changes_no_gradient():
    batch = collate(mixed_rows())
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(**batch, labels=labels_of_last(batch), pixel_values=images(2)).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gradient_checkpointing_leaves_a_frozen_encoder_out_of_the_backward_pass():
    model = tiny_model().train()
    model.model.vision_tower.requires_grad_(False)
    model.activation_checkpointing_enable()
    assert not model.encode_images(images(2)).requires_grad
    pixels = images(2).requires_grad_()
    assert model.encode_images(pixels).requires_grad


def test_a_training_batch_of_text_gives_visual_parameters_zero_gradients():
    model = tiny_model().train()
    model.model.vision_tower.requires_grad_(False)
    batch = collate([row(12), row(8)])
    loss = model(**batch, labels=labels_of_last(batch)).loss
    torch.testing.assert_close(loss, model.eval()(**batch, labels=labels_of_last(batch)).loss)
    loss.backward()
    for module in (model.model.multi_modal_projector, model.model.expert_block):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name


@torch.no_grad()
def test_logits_to_keep(model):
    batch = collate(mixed_rows(), "left")
    everything = model(**batch, pixel_values=images(2)).logits
    kept = model(**batch, pixel_values=images(2), logits_to_keep=2).logits
    torch.testing.assert_close(kept, everything[:, -2:])


@torch.no_grad()
@pytest.mark.parametrize("given", ["pixel_values", "image_features"])
def test_images_enter_embeddings_too(given):
    model = tiny_model(image_token_id=7)
    batch = collate([[7 if id_ == IMAGE_TOKEN else id_ for id_ in ids] for ids in mixed_rows()])
    image = images(2) if given == "pixel_values" else model.encode_images(images(2))
    expected = model(**batch, **{given: image})
    batch["inputs_embeds"] = model.get_input_embeddings()(batch.pop("input_ids"))
    output = model(**batch, **{given: image})
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.router_weights, expected.router_weights)


def test_an_image_token_without_embedding_is_refused_among_embeddings(model):
    with pytest.raises(ValueError, match="the image token 307 has no embedding; images need input_ids"):
        model(inputs_embeds=torch.zeros(1, 12, 16), pixel_values=images(1))


@torch.no_grad()
def test_labels_shifted_beforehand(model):
    batch = collate(mixed_rows())
    labels = labels_of_last(batch)
    shifted = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORE)], dim=1)
    losses = [
        model(**batch, labels=labels, pixel_values=images(2), **given).loss for given in ({}, {"shift_labels": shifted})
    ]
    assert torch.equal(*losses)
