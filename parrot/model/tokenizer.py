"""Is a tokenizer whole, and that of its model? Its files, text in six languages, the chat format's tokens, its size."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from parrot.config.catalog import Language
from parrot.constants import IMAGE_TOKEN
from parrot.errors import UserError
from parrot.io.files import read_object
from parrot.model.chat_template import CHAT_FORMATS
from parrot.model.weights import check_file

LONGEST = 200  # characters of another library's error
SETTINGS = "tokenizer_config.json"
# Each of these holds a vocabulary; without one of them transformers makes a tokenizer that knows no text.
VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("tokenizer.model",),
    ("sentencepiece.bpe.model",),
    ("spiece.model",),
    ("vocab.txt",),
    ("tekken.json",),
)
PROBES: dict[Language, str] = {
    "en": "What is it?",
    "zh": "这是什么？",
    "pt": "Que coração é este?",
    "ar": "ما هذا؟",
    "tr": "Bu ağaç nedir, ışığı var mı?",
    "ru": "Что это?",
}


def check_tokenizer_files(folder: Path) -> None:
    """Check that a tokenizer's files are there and readable; transformers would make a missing tokenizer up.

    Where there is a `tokenizer.json`, no other file's vocabulary is read.

    Raises:
        UserError: one is missing or cannot be read.
    """
    known = {SETTINGS, *(name for names in VOCABULARIES for name in names)}
    there = {name for name in known if os.path.lexists(folder / name)}
    for name in sorted(there):
        check_file(folder / name)
    if not any(there.issuperset(names) for names in VOCABULARIES):
        raise UserError(f"{folder}: no tokenizer.json; expected the tokenizer's files beside the weights")
    if SETTINGS not in there:
        raise UserError(f"{folder}: no {SETTINGS}; expected the tokenizer's class and special tokens")
    for name in sorted(there & {"tokenizer.json", "vocab.json"}):
        read_object(folder / name)
    longest = read_object(folder / SETTINGS).get("model_max_length", 0)
    if longest is not None and not isinstance(longest, int | float):
        raise UserError(f"{folder / SETTINGS}: model_max_length: expected a number, found {longest!r:.60}")


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder; no code of it runs.

    Raises:
        UserError: files are missing or damaged, or text in one of the six languages does not survive it.
    """
    check_tokenizer_files(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers raises no other kind for a file that it cannot read
        raise UserError(f"{folder}: tokenizer: cannot be read: {in_one_line(error)}") from None
    check_text(tokenizer, folder)
    return tokenizer


def check_text(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Check that short texts in the six languages come back as they were once encoded and decoded.

    Forms of one letter (NFKC) and runs of blanks count as equal, since tokenizers may choose among them.

    Raises:
        UserError: one does not.
    """
    for language, text in PROBES.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if _plain(back) != _plain(text):
            raise UserError(f"{folder}: tokenizer: {language}: expected {text!r} back from its tokens, found {back!r}")


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, config: Any, folder: Path) -> None:
    """Check that every token but `<image>`, which is never looked up, has a row of the model's embeddings.

    Raises:
        UserError: one has none.
    """
    token, highest = max(
        ((name, id_) for name, id_ in tokenizer.get_vocab().items() if name != IMAGE_TOKEN), key=_second
    )
    rows = config.get_text_config().vocab_size
    if highest >= rows:
        raise UserError(
            f"{folder}: tokenizer: expected tokens below config.json's vocab_size, {rows}, found {token!r} as {highest}"
        )


def check_own(tokenizer: PreTrainedTokenizerBase, config: Any, folder: Path) -> None:
    """Check that a language model's tokenizer can be the one that it was trained with.

    A vocabulary fills at least half of the embeddings, ends a text by a token that the model ends it by, and has the
    markers of a chat format as tokens of their own, if that is its model's or it has any.

    Raises:
        UserError: it cannot.
    """
    rows, end = config.get_text_config().vocab_size, tokenizer.eos_token_id
    if 2 * len(tokenizer) < rows:
        raise UserError(
            f"{folder}: tokenizer: expected about config.json's vocab_size, {rows} tokens, found {len(tokenizer)}"
        )
    ends = _ends(config, folder)
    if ends and end is not None and end not in ends:
        raise UserError(
            f"{folder}: tokenizer: eos_token: expected token {' or '.join(map(str, sorted(ends)))} as config.json "
            f"says, found {end}, {tokenizer.eos_token}"
        )
    vocabulary = tokenizer.get_vocab()
    for chat in CHAT_FORMATS.values():
        own = config.model_type.startswith(chat.families)
        for token in chat.markers if own or not vocabulary.keys().isdisjoint(chat.markers) else ():
            found = tokenizer(token, add_special_tokens=False)["input_ids"]
            if [vocabulary.get(token)] != found:
                raise UserError(f"{folder}: tokenizer: expected {token} as one token, found {len(found)}")


def _ends(config: Any, folder: Path) -> set[int]:
    """Ids of the tokens that end an answer, by config.json and generation_config.json."""
    path = folder / "generation_config.json"
    said = [config.get_text_config().eos_token_id, read_object(path).get("eos_token_id") if path.is_file() else None]
    return {id_ for ids in said for id_ in (ids if isinstance(ids, list) else [ids]) if isinstance(id_, int)}


def _second(item: tuple[str, int]) -> int:
    return item[1]


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Tell in one line what was `expected` of `path` where a library, which reads or uses it, fails.

    Raises:
        UserError: in place of that library's errors, which are of many kinds.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path}: expected {expected}: {in_one_line(error)}") from None


def in_one_line(error: Exception) -> str:
    """Return what an error of a library says, cut to `LONGEST`, or its kind."""
    return " ".join(str(error).split())[:LONGEST] or type(error).__name__
