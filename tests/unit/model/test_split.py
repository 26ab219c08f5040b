"""What splitting a model over processes needs of it: whatever a batch holds, the same modules run in the same order."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_model import collate, images, row, tiny_model


def modules_run(model, batch) -> list[str]:
    """Names of the modules with weights of their own, in the order in which a forward pass enters them."""
    ran: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _, __, name=name: ran.append(name))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    model(**batch)
    for handle in handles:
        handle.remove()
    return ran


def batches(**router_text) -> tuple[dict, dict]:
    """A batch with an image and one without."""
    with_image, text = collate([row(5, "image", 9), row(7)]), collate([row(12), row(7)])
    for batch in (with_image, text):
        batch["labels"] = torch.where(batch["attention_mask"].bool(), batch["input_ids"] % 300, -100)
        batch |= router_text
    return with_image | {"pixel_values": images(1)}, text


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize(
    ("config", "router_text"),
    [
        ({}, {}),
        ({"num_experts": 0}, {}),
        ({"router": "shuffled_text"}, {"router_input_ids": torch.ones(1, 4, dtype=torch.long)}),
    ],
    ids=["experts", "none", "own text"],
)
def test_text_alone_runs_the_modules_that_images_run(config, router_text, mode):
    model = tiny_model(**config).train(mode == "training")
    model.model.always_visual = mode == "evaluation"
    with_image, text = batches(**router_text)
    assert modules_run(model, with_image) == modules_run(model, text)


def test_running_them_changes_no_answer():
    model = tiny_model()
    _, text = batches()
    with torch.no_grad():
        plain = model(**text)
        model.model.always_visual = True
        assert torch.equal(model(**text).logits, plain.logits)
