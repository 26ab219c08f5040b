"""What the router reads: masks, another text, languages, packed samples, and the balance of experts in the loss."""

from __future__ import annotations

import pytest
import torch
from transformers import SiglipVisionConfig

from tests.helpers.tiny_model import (
    CLOSE,
    IMAGE_TOKEN,
    collate,
    images,
    labels_of_last,
    row,
    tiny_model,
    tiny_processor,
)


def rows() -> list[list[int]]:
    return [row(5, "image", 9, seed=1), row(3, "image", 4, seed=2), row(6, "image", 5, seed=3)]


def text_of(tokens: list[int]) -> list[int]:
    return [token for token in tokens if token != IMAGE_TOKEN]


@torch.no_grad()
def test_another_text_in_the_prompts_stead():
    model, texts = tiny_model(), collate([text_of(tokens) for tokens in rows()])
    read = {"router_input_ids": texts["input_ids"], "router_mask": texts["attention_mask"]}
    own = model(**collate(rows()), pixel_values=images(3))
    same = model(**collate(rows()), pixel_values=images(3), **read)
    torch.testing.assert_close(same.router_weights, own.router_weights)
    torch.testing.assert_close(same.logits, own.logits, **CLOSE)
    rolled = {name: value.roll(1, 0) for name, value in read.items()}
    other = model(**collate(rows()), pixel_values=images(3), **rolled)
    assert (other.router_weights - own.router_weights).abs().max() > 1e-3


@torch.no_grad()
def test_the_language_decides_alone():
    model = tiny_model(router="language")
    weights = [
        model(**collate(rows()[order]), pixel_values=images(3)[order], language_ids=torch.tensor([4, 1, 4]))
        for order in (slice(None), slice(None))
    ][0].router_weights
    torch.testing.assert_close(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("fields", "given", "message"),
    [
        ({"router": "shuffled_text"}, {}, "router_input_ids: the router shuffled_text"),
        ({"router": "language"}, {}, "language_ids: the router language"),
        ({"router_text": "user"}, {}, "router_mask: with router_text user"),
        ({"router": "language"}, {"language_ids": torch.tensor([1])}, "language_ids: expected one row for each of 3"),
        ({}, {"router_input_ids": torch.ones(2, 4).long()}, "router_input_ids: expected one row for each of 3"),
    ],
)
def test_a_router_without_its_input_is_refused(fields, given, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**fields)(**collate(rows()), pixel_values=images(3), **given)


def test_user_words():
    processor = tiny_processor(visual_tokens=2)
    processor.router_text = "user"
    conversation = [
        {"from": "human", "value": "<image>\nwho?"},
        {"from": "gpt", "value": "me"},
        {"from": "human", "value": "sure?"},
        {"from": "gpt", "value": "yes"},
    ]
    ids, labels = processor.format_conversation(conversation)
    read = processor.router_reads(ids, labels)
    assert processor.tokenizer.decode([t for t, r in zip(ids, read, strict=True) if r]) == "\nwho?sure?"
    processor.router_text = "prompt"
    text = processor.tokenizer.decode([t for t, r in zip(ids, processor.router_reads(ids, labels), strict=True) if r])
    assert text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\nwho?<|im_end|>\n"
        "<|im_start|>assistant\n<|im_start|>user\nsure?<|im_end|>\n<|im_start|>assistant\n"
    )


@torch.no_grad()
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_routes_on_user_words(use_cache):
    processor = tiny_processor()
    processor.router_text = "user"
    model = tiny_model(router_text="user", image_token_id=processor.image_token_id)
    prompts = [processor.format_prompt(f"<image>\n{question}") for question in ("what is it?", "why")]
    inputs = processor(text=prompts, images=[torch.zeros(3, 12, 12)] * 2, padding=True, return_tensors="pt")
    assert inputs["router_mask"].sum(1).tolist() == [len("\nwhat is it?"), len("\nwhy")]
    together = model.generate(**inputs, max_new_tokens=5, do_sample=False, use_cache=use_cache, pad_token_id=0)
    for index, prompt in enumerate(prompts):
        alone = processor(text=[prompt], images=[torch.zeros(3, 12, 12)], return_tensors="pt")
        answer = model.generate(**alone, max_new_tokens=5, do_sample=False, use_cache=use_cache, pad_token_id=0)
        assert answer[0, -5:].tolist() == together[index, -5:].tolist()


def packed(batch: list[list[int]], supervised: int = 3) -> dict[str, torch.Tensor]:
    """One row of all samples; the last `supervised` tokens of each are its answer."""
    texts = collate([text_of(tokens[:-supervised]) for tokens in batch])
    labels = [[-100] * (len(tokens) - supervised) + tokens[-supervised:] for tokens in batch]
    return {
        "input_ids": torch.tensor([sum(batch, [])]),
        "labels": torch.tensor([sum(labels, [])]),
        "position_ids": torch.cat([torch.arange(len(tokens)) for tokens in batch])[None],
        "router_input_ids": texts["input_ids"],
        "router_mask": texts["attention_mask"],
    }


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_equals_unpacked(attention):
    model = tiny_model()
    model.set_attn_implementation(attention)
    padded = collate(rows())
    apart = model(**padded, labels=labels_of_last(padded), pixel_values=images(3))
    one = model(**packed(rows()), pixel_values=images(3))
    torch.testing.assert_close(one.router_weights, apart.router_weights)
    torch.testing.assert_close(one.loss, apart.loss)
    expected = torch.cat(
        [logits[mask.bool()] for logits, mask in zip(apart.logits, padded["attention_mask"], strict=True)]
    )
    torch.testing.assert_close(one.logits[0], expected, **CLOSE)


@torch.no_grad()
def test_packed_samples_do_not_see_each_other():
    model = tiny_model()
    first, second = rows(), rows()
    second[0] = row(5, "image", 9, seed=7)
    logits = [model(**packed(batch), pixel_values=images(3)).logits[0] for batch in (first, second)]
    start = len(first[0])
    assert torch.equal(logits[0][start:], logits[1][start:])
    assert not torch.equal(logits[0][:start], logits[1][:start])


def test_packed_gradients_equal_unpacked():
    gradients = []
    padded = collate(rows())
    for batch in (padded | {"labels": labels_of_last(padded)}, packed(rows())):
        model = tiny_model().train()
        model(**batch, pixel_values=images(3)).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_balance_is_part_of_the_training_loss_only():
    batch = collate(rows())
    batch |= {"labels": labels_of_last(batch), "pixel_values": images(3)}
    plain, balanced = tiny_model().train(), tiny_model(router_balance=0.5).train()
    weights = plain(**batch).router_weights
    penalty = 3 * weights.mean(0).square().sum()
    torch.testing.assert_close(balanced(**batch).loss, plain(**batch).loss + 0.5 * penalty)
    torch.testing.assert_close(balanced.eval()(**batch).loss, plain.eval()(**batch).loss)
    shared = balanced.train()(**batch, num_items_in_batch=36).loss
    torch.testing.assert_close(shared, plain.train()(**batch).loss * 9 / 36 + 0.5 * penalty * 9 / 36)


@torch.no_grad()
def test_patches_alone():
    with_class = tiny_model(num_experts=0)
    model = tiny_model(num_experts=0, vision_feature_select="patch")
    model.load_state_dict(with_class.state_dict())
    assert model.config.num_image_tokens == 9
    torch.testing.assert_close(model.encode_images(images(2)), with_class.encode_images(images(2))[:, 1:])


@torch.no_grad()
@pytest.mark.parametrize("select", ["cls_patch", "patch"])
@pytest.mark.parametrize("layer", [-1, -2])
def test_siglip_has_no_class_token(select, layer):
    sizes = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision = SiglipVisionConfig(image_size=12, patch_size=4, vision_use_head=False, **sizes)
    experts = 3 if select == "cls_patch" else 0
    model = tiny_model(
        vision_config=vision, vision_feature_select=select, vision_feature_layer=layer, num_experts=experts
    )
    patches = model.model.vision_tower(images(2), output_hidden_states=True).hidden_states[layer]
    features = model.encode_images(images(2))
    torch.testing.assert_close(features[:, -9:], patches)
    assert features.shape[1] == model.config.num_image_tokens == 9 + (select == "cls_patch")
    if select == "cls_patch":
        torch.testing.assert_close(features[:, 0], patches.mean(1))
