"""The tokenizer's files as the released code's libraries (transformers 4.39, tokenizers 0.15) read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer

from parrot.constants import IMAGE
from parrot.errors import ConfigError
from parrot.io.files import atomic_write, write_json

_TOKEN_FIELDS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, where: str, kept: dict[str, Any]) -> None:
    """Write vocab.json, merges.txt, added_tokens.json, tokenizer.json and the two configs of them into `folder`.

    `<image>` is left out: the released code never tokenises it. `kept` are JSON files by name that an imported model
    came with; they win over what is derived here.

    Raises:
        ConfigError: the tokenizer is not Qwen2's, or a token would get another id there.
    """
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    _check_kind(spec, where)
    model = spec["model"]
    vocabulary = {token: id_ for token, id_ in sorted(model["vocab"].items(), key=_second) if token != IMAGE}
    added = [token for token in spec["added_tokens"] if token["content"] != IMAGE]
    _check_ids(vocabulary, added, where)
    # tokenizers 0.15 knows a merge as one string; no byte-level token holds a blank.
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    whole = {"vocab": vocabulary, "merges": merges, "continuing_subword_prefix": "", "end_of_word_suffix": ""}
    model = {name: value for name, value in model.items() if name != "ignore_merges"} | whole
    written = {"added_tokens": added, "truncation": None, "padding": None, "model": model}
    write_json(folder / "tokenizer.json", spec | written)
    write_json(folder / "vocab.json", vocabulary)
    atomic_write(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    write_json(folder / "added_tokens.json", {token["content"]: token["id"] for token in added})
    by_id = {str(token["id"]): {name: token[name] for name in _TOKEN_FIELDS} for token in added}
    special = _special_tokens(tokenizer, added)
    config = {**_config(tokenizer), **special, **kept.get("tokenizer_config.json", {}), "added_tokens_decoder": by_id}
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", kept.get("special_tokens_map.json", special))


def _second(item: tuple[str, int]) -> int:
    return item[1]


def _check_kind(spec: dict[str, Any], where: str) -> None:
    """The released code cuts texts as Qwen2 does, whatever the files say."""
    known = json.loads(Qwen2Tokenizer(vocab={}, merges=[]).backend_tokenizer.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        if spec[part] != known[part]:
            raise ConfigError(f"{where}: tokenizer: {part}: expected Qwen2's")
    if spec["model"]["type"] != "BPE":
        raise ConfigError(f"{where}: tokenizer: model: expected byte-level BPE, found {spec['model']['type']}")


def _check_ids(vocabulary: dict[str, int], added: list[dict[str, Any]], where: str) -> None:
    """There, an added token outside the vocabulary gets the next free id."""
    beside = sorted((token["id"], token["content"]) for token in added if token["content"] not in vocabulary)
    for expected, (id_, token) in enumerate(beside, start=len(vocabulary)):
        if id_ != expected:
            raise ConfigError(f"{where}: tokenizer: {token}: id {id_} would become {expected} in the released layout")


def _special_tokens(tokenizer: PreTrainedTokenizerBase, added: list[dict[str, Any]]) -> dict[str, Any]:
    named = {"eos_token": tokenizer.eos_token, "pad_token": tokenizer.pad_token, "unk_token": tokenizer.unk_token}
    others = [token["content"] for token in added if token["special"] and token["content"] not in named.values()]
    return {"additional_special_tokens": others, **named}


def _config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": tokenizer.model_max_length,
        "padding_side": "right",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
    }
