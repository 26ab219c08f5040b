"""Training's own data path gives the released batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parrot.data.collate import Collator
from tests.golden.model.reference import IGNORED, PIXELS, close, group, read_json


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "batch" in metafunc.fixturenames:
        folder: Path = metafunc.config.getoption("--golden") / "model"
        metafunc.parametrize("batch", read_json(folder / "results.json")["info"]["batches"])


def test_batch(folder, processor, load_case, rows, batch):
    case = load_case(batch)
    names = read_json(folder / "results.json")["info"]["batches"][batch]
    found = Collator(processor, "text", 10_000)([rows[name] for name in names])
    real = case.inputs["attention_mask"].bool()
    assert found["ids"] == names
    assert torch.equal(found["input_ids"][real], case.inputs["input_ids"][real])
    assert torch.equal(found["labels"], case.inputs["labels"])
    is_text = found["input_ids"] != processor.image_token_id
    assert torch.equal(found["router_mask"], real & is_text & (found["labels"] == IGNORED))
    assert (found["input_ids"][~real] == processor.tokenizer.pad_token_id).all()
    if case.with_image.any():
        close(found["pixel_values"], case.slots[case.with_image], PIXELS)
    assert ("pixel_values" in found) == bool(case.with_image.any())


@torch.no_grad()
def test_a_collated_batch_has_the_released_loss(folder, processor, load, rows, batch):
    """Without an attention mask: behind a sample's end causal attention never looks at the padding."""
    names = read_json(folder / "results.json")["info"]["batches"][batch]
    inputs = Collator(processor, "text", 10_000)([rows[name] for name in names])
    inputs.pop("ids")
    expected = read_json(folder / "results.json")["variants"]["main"][f"{batch}.loss_eval"]
    assert load("main")(**inputs).loss.item() == pytest.approx(expected, rel=0, abs=1e-5)


def test_the_mask_marks_all_but_the_padding(folder):
    pad = read_json(folder / "checkpoint/added_tokens.json")["<|endoftext|>"]
    for batch in read_json(folder / "results.json")["info"]["batches"]:
        tensors = group(folder / "batches.safetensors", batch)
        assert torch.equal(tensors["attention_mask"], tensors["input_ids"] != pad)
