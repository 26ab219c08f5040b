"""What the reference notes of the released code's behaviour, each checked on this model."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from torch.nn import functional as F

from parrot.model import ParrotForConditionalGeneration
from parrot.model.convert import load_released
from tests.golden.model.reference import (
    EMBEDDINGS,
    IGNORED,
    LOSS,
    close,
    group,
    language_model_inputs,
    read_json,
    read_tensors,
)

# Compared elsewhere: test_golden_forward (where visual tokens stand), test_golden_differences (two images, typed
# end of text).
ELSEWHERE = {
    "moe_out_sits_at_image_position_incl_cls": True,
    "two_images_second_block_all_zero": True,
    "two_images_first_block_nonzero": True,
    "eot_inside_dropped": True,
}
HERE = {
    "collated_keys",
    "attention_mask_dtype",
    "position_ids_returned_when_None_given",
    "attn_impl_default",
    "text_only_embeds_equal_embed_tokens_exactly",
    "text_only_image_is_all_zero_pixels",
    "reload_via_build_max_abs_diff",
    "loss_topk6_vs_topk1",
    "router_logit_change_after_changing_an_answer_token",
    "router_logit_change_after_changing_a_question_token",
    "visual_tokens_inserted",
    "plain_formula_max_abs_diff",
    "moe_input_has_image_embeds",
    "moe_input_len_vs_question_len",
}


@pytest.fixture(scope="module")
def notes(folder):
    return read_json(folder / "results.json")["notes"]


@pytest.fixture(scope="module")
def model(load):
    return load("main")


@pytest.fixture(scope="module")
def batch(load_case):
    return load_case("b4")


@pytest.fixture(scope="module")
def logits(model, batch):
    with torch.no_grad():
        return model(**batch.model_inputs).logits


def test_every_note_is_checked(notes):
    assert notes.keys() == HERE | ELSEWHERE.keys()
    assert {name: notes[name] for name in ELSEWHERE} == ELSEWHERE


def test_what_a_batch_holds(folder, notes):
    tensors = group(folder / "batches.safetensors", "b4")
    assert sorted(tensors) == notes["collated_keys"]
    assert str(tensors["attention_mask"].dtype) == notes["attention_mask_dtype"]


@torch.no_grad()
def test_training_gives_no_positions(model, notes, batch):
    """Without a mask none are made up either, and the language model counts for itself."""
    inputs = {name: value for name, value in batch.model_inputs.items() if name != "attention_mask"}
    with language_model_inputs(model) as seen:
        model(**inputs)
    assert seen["position_ids"] is notes["position_ids_returned_when_None_given"] is None


def test_attention_by_default(model, notes):
    assert model.config._attn_implementation == notes["attn_impl_default"]


@torch.no_grad()
def test_text_alone_is_embedded_as_text(folder, model, notes, load_case):
    ids = load_case("text").inputs["input_ids"]
    plain = model.get_input_embeddings()(ids)
    with language_model_inputs(model) as seen:
        model(ids)
    expected = read_tensors(folder / "golden_main.safetensors")["text.inputs_embeds"]
    assert notes["text_only_embeds_equal_embed_tokens_exactly"] is torch.equal(expected, plain) is True
    assert torch.equal(seen["inputs_embeds"], plain)


def test_text_alone_has_a_blank_image(notes, batch):
    assert notes["text_only_image_is_all_zero_pixels"] is bool((batch.slots[~batch.with_image] == 0).all()) is True


def test_saved_and_loaded_again(model, notes, batch, logits, tmp_path):
    model.save_pretrained(tmp_path)
    again = ParrotForConditionalGeneration.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert (again(**batch.model_inputs).logits - logits).abs().max() == notes["reload_via_build_max_abs_diff"]


def test_all_experts_are_summed(folder, checkpoint, notes, batch, tmp_path):
    """`moe_top_k` of the released configuration is read and never used."""
    released = read_json(folder / "variants/main.config.json")
    losses = []
    for chosen in (released["num_experts"], 1):
        copy = shutil.copytree(checkpoint("main").parent, tmp_path / str(chosen)) / "checkpoint"
        (copy / "config.json").write_text(json.dumps(released | {"moe_top_k": chosen}))
        model, _ = load_released(copy)
        with torch.no_grad():
            losses.append(model(**batch.model_inputs).loss.item())
    assert notes["loss_topk6_vs_topk1"] == pytest.approx(losses, rel=0, abs=LOSS)


@pytest.mark.parametrize("what", ["an_answer", "a_question"])
@torch.no_grad()
def test_what_the_router_reads(model, notes, batch, what):
    """Questions only: another token in an answer changes nothing, another one in a question does."""
    ids, labels = batch.inputs["input_ids"], batch.inputs["labels"]
    row = int(batch.with_image.nonzero()[0])
    is_text = batch.inputs["attention_mask"].bool() & (ids != model.config.image_token_id)
    places = (is_text & ((labels != IGNORED) == (what == "an_answer")))[row].nonzero().squeeze(-1)
    changed = ids.clone()
    changed[row, places[-1]] = ids[row, 0]
    assert not torch.equal(changed, ids)
    weights = [model(**batch.model_inputs | {"input_ids": one}).router_weights[0].log() for one in (ids, changed)]
    stated = notes[f"router_logit_change_after_changing_{what}_token"]
    assert (stated == 0) == torch.equal(*weights) == (what == "an_answer")


def test_visual_tokens(folder, model, notes, batch):
    given = group(folder / "batches.safetensors", "b4")["attention_mask"].sum(1)
    inserted = (batch.inputs["attention_mask"].sum(1) - given)[batch.with_image] + 1
    assert inserted.tolist() == [notes["visual_tokens_inserted"]] * len(inserted)
    assert model.config.num_image_tokens == notes["visual_tokens_inserted"]


@torch.no_grad()
def test_plain_formula(folder, model, notes, batch):
    """The stored experts' output, recomputed image by image and expert by expert, from questions without images."""
    block, config = model.model.expert_block, model.config
    stored = group(folder / "golden_main.safetensors", "b4")
    for row, projected in enumerate(stored["projected"]):
        ids, labels, mask = (batch.inputs[name][row] for name in ("input_ids", "labels", "attention_mask"))
        questions = ids[mask.bool() & (labels == IGNORED) & (ids != config.image_token_id)]
        text = model.get_input_embeddings()(questions)
        attention = (projected[0] @ text.T / math.sqrt(config.text_config.hidden_size)).softmax(-1)
        weights = (block.router.weight @ (attention @ text)).softmax(-1)
        guided = config.moe_weight * projected
        experts = block.experts
        for weight, gate, up, down in zip(weights, experts.gate_proj, experts.up_proj, experts.down_proj, strict=True):
            guided = guided + weight * (F.silu(projected @ gate.T) * (projected @ up.T)) @ down
        close(guided, stored["moe_out"][row], EMBEDDINGS)
    assert notes["plain_formula_max_abs_diff"] < EMBEDDINGS
    read, length = notes["moe_input_len_vs_question_len"]
    stated = read_json(folder / "results.json")["variants"]["main"]
    assert read == length
    assert any(length in counts for name, counts in stated.items() if name.endswith(".n_question_tokens"))
    assert notes["moe_input_has_image_embeds"] is False
