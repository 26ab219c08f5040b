"""Is a conversation set what training can learn from? It is read as training reads it, and every fault is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from parrot.config.catalog import BackboneFolder, ConversationSet, Dataset
from parrot.config.stages import Tokenisation
from parrot.data.conversations import Tokenizes, blocks, samples
from parrot.data.samples import Reading
from parrot.errors import ConfigError


class Reader(NamedTuple):
    """How a stage reads its sets."""

    processor: Tokenizes
    max_length: int


class Inspected(NamedTuple):
    """What a set holds, none where its file cannot be read; what is wrong, and what its entry leaves out, a line each.

    `images` has the first sample that shows each image file.
    """

    counts: dict[str, int]
    problems: list[str]
    left_out: list[str]
    images: dict[str, str]


def readers(datasets: Mapping[str, Dataset], tokenisations: Sequence[Tokenisation]) -> dict[str, list[Reader]]:
    """Every way in which training reads each set; ConfigError for a backbone without a readable tokenizer."""
    from parrot.model.processing_parrot import processor_of

    found: dict[str, list[Reader]] = {}
    for each in tokenisations:
        folders = [_path(datasets[name]) for name in (each.vision_tower, each.language_model)]
        try:
            reader = Reader(processor_of(folders[0], folders[1], each.vision_feature_select), each.max_length)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{' and '.join(folders)}: no readable tokenizer and image size: {error}") from None
        for name in each.sets:
            found.setdefault(name, []).append(reader)
    return found


def inspect_set(entry: ConversationSet, ways: Sequence[Reader]) -> Inspected:
    """Read a set once for each of `ways`, or without tokenising it where there is none."""
    found = [_inspect(entry, reader) for reader in ways] or [_inspect(entry, None)]
    # What is wrong whatever the tokens is found each time.
    problems = list(dict.fromkeys(line for each in found for line in each.problems))
    return found[0]._replace(problems=problems)


def _inspect(entry: ConversationSet, reader: Reader | None) -> Inspected:
    reading, images = Reading(entry), dict[str, str]()
    kept = shown = supervised = 0
    try:
        for identifier, image, tokens in _rows(entry, reader, reading):
            kept, supervised = kept + 1, supervised + tokens
            if image is not None:
                shown += 1
                images.setdefault(image, f"{entry.file}: sample {identifier}")
    except ConfigError as error:
        return Inspected({}, [str(error)], [], {})
    left_out = reading.accepted()
    counts: dict[str, int] = {
        "samples": reading.samples,
        "with_picture": shown,
        "accepted_losses": len(reading.ids.keys() & set(entry.accepted_losses)),
    }
    if reader is not None:
        counts["supervised_tokens"] = supervised
    counts |= {str(kind): len(lines) for kind, lines in left_out.items()}
    problems = [*_against_entry(entry, reading), *reading.problems(kept)]
    return Inspected(counts, problems, [line for lines in left_out.values() for line in lines], images)


def _rows(entry: ConversationSet, reader: Reader | None, reading: Reading) -> Iterator[tuple[str, str | None, int]]:
    """Id, image file and supervised tokens of each sample that can be used."""
    if reader is None:
        for sample in samples(entry, reading):
            yield str(sample["id"]), str(Path(entry.images, sample["image"])) if "image" in sample else None, 0
        return
    for block in blocks(entry, *reader, reading):
        yield from zip(*(block[name].to_pylist() for name in ("id", "image", "supervised")), strict=True)


def _against_entry(entry: ConversationSet, reading: Reading) -> Iterator[str]:
    """What is not as the catalogue says, and ids that are not unique."""
    if entry.samples is not None and reading.samples != entry.samples:
        yield f"{entry.file}: samples: expected {entry.samples}, found {reading.samples}"
    for identifier in sorted(set(entry.accepted_losses) - reading.ids.keys()):
        yield f"{entry.file}: accepted_losses: there is no sample {identifier}"
    repeated = [identifier for identifier, count in reading.ids.items() if count > 1]
    if repeated:
        others = f" and so do {len(repeated) - 1} others" if len(repeated) > 1 else ""
        yield f"{entry.file}: id: {repeated[0]} occurs more than once{others}"


def _path(backbone: Dataset) -> str:
    assert isinstance(backbone, BackboneFolder), "a run's settings name backbones as such"
    return backbone.path
