"""LLaVA-style conversation sets as memory-mapped Arrow tables, tokenised once.

A set's JSON is read one sample at a time and written as one Arrow file in the work folder, named by a digest of
everything that it depends on; training maps that file, so that no data set lives in memory, whatever its size. Its
digest lies beside it: a damaged file is written anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from parrot.config.catalog import ConversationSet
from parrot.config.staleness import code_digest, key
from parrot.constants import IGNORE_INDEX, IMAGE_TOKEN
from parrot.data.json_stream import elements
from parrot.data.samples import Found, Reading, fault, identifier, image_fault
from parrot.errors import UserError
from parrot.io.digests import file_sha256, is_complete, seal
from parrot.io.files import atomic_path, check_regular

ROWS_PER_BLOCK = 1024
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "language": pa.string(),
        "source": pa.string(),  # the JSON file, for messages
        "image": pa.string(),  # path of the image; null for a text-only sample
        "input_ids": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
        "length": pa.int32(),
        "supervised": pa.int32(),  # tokens that count in the loss
    }
)


class Tokenizes(Protocol):
    """What this module needs of the model's processor."""

    tokenizer: Any
    image_token_id: int

    def format_conversations(self, conversations: list[list[dict[str, str]]]) -> list[tuple[list[int], list[int]]]:
        """Token ids and labels of conversations, `<image>` expanded to as many tokens as the image takes."""


def load(sets: tuple[ConversationSet, ...], processor: Tokenizes, cache: Path, max_length: int) -> Dataset:
    """All samples of `sets`, in order, with the columns of `SCHEMA`; Arrow files are kept in `cache` and reused.

    Samples that a set's `accepted_losses` and `accept` name are left out.

    Raises:
        UserError: a set is empty, its JSON file or a sample of it is not what it must be, or a sample teaches nothing
            in `max_length` tokens.
    """
    return concatenate_datasets([_load(entry, processor, cache, max_length) for entry in sets])


def samples(entry: ConversationSet, reading: Reading, images: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the sound samples of a set, without accepted losses; put the others down in `reading`.

    `images` says whether their image files must be there.

    Raises:
        UserError: the file is no JSON list.
    """
    lost = frozenset(entry.accepted_losses)
    for position, sample in enumerate(elements(entry.file)):
        name, found = identifier(sample), fault(sample)
        reading.samples += 1
        if name is not None:
            reading.ids[name] += 1
        if found is None and name in lost:
            continue
        if found is None and images and "image" in sample:
            found = image_fault(entry, sample["image"])
        if found is None:
            yield sample
        else:
            reading.add(f"sample number {position}" if name is None else f"sample {name}", found)


def blocks(entry: ConversationSet, processor: Tokenizes, max_length: int, reading: Reading) -> Iterator[pa.RecordBatch]:
    """Rows of `SCHEMA`, some at a time, of the samples with supervised tokens; see `samples` for the others."""
    sound = samples(entry, reading)
    while block := list(islice(sound, ROWS_PER_BLOCK)):
        rows = []
        encoded = processor.format_conversations([sample["conversations"] for sample in block])
        for sample, (input_ids, labels) in zip(block, encoded, strict=True):
            if found := _length_fault(input_ids, labels, processor.image_token_id, max_length):
                reading.add(f"sample {sample['id']}", found)
            else:
                rows.append(_row(entry, sample, input_ids, labels))
        yield pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _length_fault(input_ids: list[int], labels: list[int], image_token: int, max_length: int) -> Found | None:
    """Say what is wrong where `max_length` tokens leave nothing to learn from, or half an image."""
    if image_token in input_ids[max_length:]:
        return Found("image_cut", f"its visual tokens do not fit into max_length {max_length}")
    if all(label == IGNORE_INDEX for label in labels[:max_length]):
        beyond = f" within max_length {max_length}" if len(labels) > max_length else ""
        return Found("nothing_supervised", f"expected supervised tokens{beyond}, found none")
    return None


def _load(entry: ConversationSet, processor: Tokenizes, cache: Path, max_length: int) -> Dataset:
    path = cache / file_name(entry, processor, max_length)
    if not is_complete(path):
        with atomic_path(path) as partial:
            _write(entry, processor, max_length, partial)
            seal(partial, path)
    return Dataset.from_file(str(path))


def _write(entry: ConversationSet, processor: Tokenizes, max_length: int, path: Path) -> None:
    reading, kept = Reading(entry), 0
    with pa.ipc.new_stream(path, SCHEMA) as writer:
        for batch in blocks(entry, processor, max_length, reading):
            kept += len(batch)
            writer.write_batch(batch)
    if problems := reading.problems(kept):
        others = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise UserError(problems[0] + others)


def _row(entry: ConversationSet, sample: dict[str, Any], input_ids: list[int], labels: list[int]) -> dict[str, Any]:
    return {
        "id": str(sample["id"]),
        "language": entry.language,
        "source": entry.file,
        "image": entry.image_path(sample["image"]) if "image" in sample else None,
        "input_ids": input_ids,
        "labels": labels,
        "length": len(input_ids),
        "supervised": len(labels) - labels.count(IGNORE_INDEX),
    }


def file_name(entry: ConversationSet, processor: Tokenizes, max_length: int) -> str:
    """Name the set's Arrow file by all it depends on: JSON, folder of images, tokeniser and code.

    Raises:
        UserError: the JSON cannot be read.
    """
    check_regular(entry.file)
    try:
        digest = file_sha256(entry.file)
    except OSError as error:
        raise UserError(f"{entry.file}: cannot be read: {error.strerror}") from None
    probe = processor.format_conversations(
        [[{"from": "human", "value": f"{IMAGE_TOKEN}\n?"}, {"from": "gpt", "value": "."}]]
    )
    vocabulary = key(processor.tokenizer.backend_tokenizer.to_str())
    code = code_digest("tokens")
    accepted = {kind: fault.count for kind, fault in entry.accept.items()}
    place = [entry.file, entry.images, entry.language, entry.accepted_losses, accepted, max_length]
    return f"{Path(entry.file).stem}.{key([digest, place, vocabulary, probe, code])}.arrow"
