"""The loss whose backward pass overwrites its logits, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from parrot.model import loss
from parrot.model.loss import cross_entropy_sum

ROWS, VOCABULARY = 7, 50


def inputs(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return 3 * torch.randn(ROWS, VOCABULARY, dtype=dtype), torch.randint(VOCABULARY, (ROWS,))


@pytest.mark.parametrize("chunk", [1, 2 * VOCABULARY, 1 << 22])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradient_equal_torch_s(monkeypatch, chunk, dtype):
    monkeypatch.setattr(loss, "CHUNK", chunk)
    results = []
    for function in (cross_entropy_sum, lambda x, y: F.cross_entropy(x.float(), y, reduction="sum")):
        leaf, targets = inputs(dtype)
        leaf.requires_grad_()
        value = function(1 * leaf, targets)
        (0.3 * value).backward()
        results.append((value.detach(), leaf.grad))
    assert results[0][0].dtype == torch.float32
    torch.testing.assert_close(results[0], results[1])


def test_large_logits_do_not_overflow():
    leaf = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    value = cross_entropy_sum(1 * leaf, torch.tensor([1]))
    value.backward()
    assert value.item() == 1e4
    assert leaf.grad.tolist() == [[1, -1, 0]]


def test_no_rows_give_no_loss_and_no_gradient():
    leaf = torch.zeros(0, VOCABULARY, requires_grad=True)
    value = cross_entropy_sum(1 * leaf, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert leaf.grad.shape == (0, VOCABULARY)


def test_overwritten_logits_are_not_used_again():
    leaf, targets = inputs()
    leaf.requires_grad_()
    value = cross_entropy_sum(1 * leaf, targets)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
