"""LLaVA-style conversation sets as memory-mapped Arrow tables, tokenised once.

A set's JSON is read one sample at a time and written as one Arrow file in the work folder, named by a digest of
everything that it depends on; training maps that file, so that no data set lives in memory, whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from parrot.config import ConfigError, ConversationSet
from parrot.data.json_stream import elements
from parrot.digest import code_digest, file_sha256, key
from parrot.files import atomic_path
from parrot.marks import IMAGE

SPEAKERS = ("system", "human", "gpt")
ROWS_A_BLOCK = 1024
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "language": pa.string(),
        "source": pa.string(),  # the JSON file, for messages
        "image": pa.string(),  # path of the picture; null for a text-only sample
        "input_ids": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
        "length": pa.int32(),
    }
)


class Tokenizes(Protocol):
    """What this module needs of the model's processor."""

    tokenizer: Any

    def format_conversations(self, conversations: list[list[dict[str, str]]]) -> list[tuple[list[int], list[int]]]:
        """Token ids and labels of conversations, `<image>` expanded to as many tokens as the picture takes."""


def load(sets: tuple[ConversationSet, ...], processor: Tokenizes, cache: Path) -> Dataset:
    """All samples of `sets`, in order, with the columns of `SCHEMA`; Arrow files are kept in `cache` and reused.

    Samples that a set's `accepted_losses` names are left out. Raises ConfigError where a JSON file or a sample of it
    is not what a conversation set holds.
    """
    return concatenate_datasets([_load(entry, processor, cache) for entry in sets])


def samples(entry: ConversationSet) -> Iterator[dict[str, Any]]:
    """The samples of a set, one at a time, checked; ConfigError naming file, sample and field."""
    for position, sample in enumerate(elements(entry.file)):
        _check(entry, position, sample)
        yield sample


def _check(entry: ConversationSet, position: int, sample: Any) -> None:
    where = f"{entry.file}: sample number {position}"
    if not isinstance(sample, dict):
        raise ConfigError(f"{where}: expected an object with id and conversations, found {type(sample).__name__}")
    if "id" not in sample:
        raise ConfigError(f"{where}: id is missing")
    where = f"{entry.file}: sample {sample['id']}"
    turns = sample.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise ConfigError(f"{where}: conversations: expected a list of turns, found {_found(turns)}")
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str) or turn.get("from") not in SPEAKERS:
            raise ConfigError(
                f"{where}: conversations: expected turns with from (system, human or gpt) and value (text)"
            )
    if not isinstance(sample.get("image", ""), str):
        raise ConfigError(f"{where}: image: expected a file name, found {_found(sample['image'])}")
    marks = sum(turn["value"].count(IMAGE) for turn in turns if turn["from"] == "human")
    if marks != ("image" in sample):
        raise ConfigError(f"{where}: conversations: expected {int('image' in sample)} {IMAGE}, found {marks}")


def _found(value: Any) -> str:
    return "nothing" if value is None else "an empty list" if value == [] else type(value).__name__


def _load(entry: ConversationSet, processor: Tokenizes, cache: Path) -> Dataset:
    path = cache / f"{Path(entry.file).stem}.{_key(entry, processor)}.arrow"
    if not path.is_file():
        with atomic_path(path) as partial, pa.ipc.new_stream(partial, SCHEMA) as writer:
            lost = frozenset(entry.accepted_losses)
            kept = (sample for sample in samples(entry) if str(sample["id"]) not in lost)
            while block := list(islice(kept, ROWS_A_BLOCK)):
                encoded = processor.format_conversations([sample["conversations"] for sample in block])
                rows = [_row(entry, sample, *ids) for sample, ids in zip(block, encoded, strict=True)]
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    return Dataset.from_file(str(path))


def _row(entry: ConversationSet, sample: dict[str, Any], input_ids: list[int], labels: list[int]) -> dict[str, Any]:
    picture = Path(entry.images, sample["image"]) if "image" in sample else None
    if picture is not None and not picture.is_file():
        raise ConfigError(f"{entry.file}: sample {sample['id']}: image: {picture} is missing")
    return {
        "id": str(sample["id"]),
        "language": entry.language,
        "source": entry.file,
        "image": str(picture) if picture is not None else None,
        "input_ids": input_ids,
        "labels": labels,
        "length": len(input_ids),
    }


def _key(entry: ConversationSet, processor: Tokenizes) -> str:
    """Digest of what an Arrow file depends on: the JSON, where its pictures are, the tokeniser and the code."""
    try:
        digest = file_sha256(entry.file)
    except OSError as error:
        raise ConfigError(f"{entry.file}: cannot be read: {error.strerror}") from None
    probe = processor.format_conversations([[{"from": "human", "value": f"{IMAGE}\n?"}, {"from": "gpt", "value": "."}]])
    vocabulary = key(processor.tokenizer.backend_tokenizer.to_str())
    code = code_digest("parrot.data.conversations", "parrot.model.processing")
    place = [entry.file, entry.images, entry.language, entry.accepted_losses]
    return key([digest, place, vocabulary, probe, code])
