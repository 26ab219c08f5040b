"""What using fewer experts and packing samples save."""

from __future__ import annotations

import statistics
from functools import partial

import torch
from torch import Tensor, nn

from parrot.constants import IGNORE_INDEX
from parrot.model.experts import ParrotExpertBlock
from tests.bench.measure import interleaved
from tests.bench.subjects import OURS, SYSTEM, Size, backward, build


def top_k(size: Size, rounds: int) -> None:
    """The expert block alone, forward and backward, by the number of experts that an image uses."""
    torch.manual_seed(0)
    width, visual = size.text["hidden_size"], size.parrot_config().num_image_tokens
    tokens = torch.randn(size.batch, visual, width, requires_grad=True)
    text = torch.randn(size.batch, size.text_tokens, width, requires_grad=True)
    mask = torch.ones(size.batch, size.text_tokens, dtype=torch.bool)
    counts = [k for k in (1, 2, 3) if k < size.experts] + [size.experts]
    blocks = {k: _expert_block(size, k) for k in counts}
    steps = {str(k): partial(_block_step, block, tokens, text, mask) for k, block in blocks.items()}
    times = interleaved(steps, rounds)
    print(f"### Experts that an image uses, of {size.experts}\n")
    print("| top_k | expert block, processor ms | of all experts' | arithmetic |")
    print("| ---: | ---: | ---: | ---: |")
    every = times[str(size.experts)].cpu
    for k in counts:
        cpu = times[str(k)].cpu
        print(f"| {k} | {1000 * cpu:.1f} | {cpu / every:.2f} | {k / size.experts:.2f} |")
    print(flush=True)


def _expert_block(size: Size, k: int) -> nn.Module:
    block = ParrotExpertBlock(size.parrot_config(moe_top_k=k))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.05)
    return block


def _block_step(block: nn.Module, visual: Tensor, text: Tensor, mask: Tensor) -> None:
    for tensor in (visual, text):
        tensor.grad = None
    block.zero_grad(set_to_none=True)
    block(visual, text, mask).visual.sum().backward()


def packing(size: Size, rounds: int) -> None:
    """The same samples padded to the longest and packed into one row, their lengths as uneven as instructions are.

    `sdpa` computes a packed row's attention between all its samples and masks it, flash and flex attention leave it
    out: where the language model is as narrow as here, that outweighs the padding in long rows.
    """
    print(f"### Packing, vocabulary {size.vocabulary}, half of the text supervised\n")
    print("| samples | text tokens | of the padded batch is padding | padded, processor s | packed | of padded |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    model = build(OURS, size)
    for samples in sorted({4, size.batch}):
        lengths = text_lengths(samples, size.text_tokens)
        padded, packed = padded_and_packed(size, lengths)
        torch.testing.assert_close(backward(model, padded), backward(model, packed), rtol=1e-4, atol=0)
        steps = {"padded": partial(backward, model, padded), "packed": partial(backward, model, packed)}
        times = {name: time.cpu for name, time in interleaved(steps, rounds).items()}
        share = 1 - packed["input_ids"].numel() / padded["input_ids"].numel()
        print(
            f"| {samples} | {min(lengths)} to {max(lengths)}, median {statistics.median(lengths):.0f} | "
            f"{100 * share:.0f} % | {times['padded']:.3f} | {times['packed']:.3f} | "
            f"{times['packed'] / times['padded']:.2f} |"
        )
    print(flush=True)


def text_lengths(samples: int, median: int) -> list[int]:
    """Log-normal, a few several times the median, as in instruction data; at least half of it."""
    torch.manual_seed(0)
    drawn = torch.empty(samples).log_normal_(0, 0.6) * median
    return drawn.long().clamp(min=max(SYSTEM + 4, median // 2)).tolist()


def padded_and_packed(size: Size, lengths: list[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The two forms of one batch, as `parrot.data.collate` makes them: no attention mask in either."""
    generator = torch.Generator().manual_seed(1)
    visual = torch.full((size.parrot_config().num_image_tokens,), size.image_token)
    texts = [torch.randint(size.image_token, (length,), generator=generator) for length in lengths]
    ids = [torch.cat([text[:SYSTEM], visual, text[SYSTEM:]]) for text in texts]
    labels = [
        torch.where(torch.arange(len(row)) >= len(row) - len(text) // 2 + 1, row, IGNORE_INDEX)
        for row, text in zip(ids, texts, strict=True)
    ]
    prompts = [
        row[(target == IGNORE_INDEX) & (row != size.image_token)] for row, target in zip(ids, labels, strict=True)
    ]
    side = size.vision["image_size"]
    pixels = {"pixel_values": torch.randn(len(lengths), 3, side, side, generator=generator)}
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
    reads = {
        "router_input_ids": pad(prompts),
        "router_mask": pad([torch.ones(len(row), dtype=torch.bool) for row in prompts]),
    }
    padded = {"input_ids": pad(ids), "labels": pad(labels, padding_value=IGNORE_INDEX)} | reads | pixels
    positions = torch.cat([torch.arange(len(row)) for row in ids])[None]
    packed = {"input_ids": torch.cat(ids)[None], "labels": torch.cat(labels)[None], "position_ids": positions}
    return padded, packed | reads | pixels
