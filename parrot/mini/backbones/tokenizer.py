"""The byte-level BPE tokenizer of the mini language model, in Qwen2's format."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Tokenizer

from parrot.constants import IMAGE

VOCABULARY = 4096
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(lines: Iterable[str], size: int = VOCABULARY) -> Qwen2Tokenizer:
    """Train on `lines`; `size` counts the 256 bytes and the special tokens."""
    blank = Qwen2Tokenizer(vocab={}, merges=[])
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    blank.backend_tokenizer.train_from_iterator(lines, trainer)
    tokenizer = Qwen2Tokenizer(
        tokenizer_object=blank.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", IMAGE],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
