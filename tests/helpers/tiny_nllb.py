"""A random translation model of NLLB's classes: one token a character, six languages."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

from parrot.constants import LANGUAGES, PAPER_LANGUAGES
from parrot.model.tokenizer import PROBES


def write_nllb(folder: Path) -> None:
    letters = dict.fromkeys([*string.ascii_letters, *"什么颜色红绿蓝", *"".join(PROBES.values()).replace(" ", "")])
    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *letters])}
    codes = [LANGUAGES[language].nllb for language in PAPER_LANGUAGES]
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=codes)
    layers = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in layers.items()}
    torch.manual_seed(0)
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=len(tokenizer), d_model=16, **sides))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.4)
    # Letters end a translation too, so that lengths differ.
    model.generation_config.eos_token_id = [2, *range(5, 20)]
    for part in (model, tokenizer):
        part.save_pretrained(folder)
