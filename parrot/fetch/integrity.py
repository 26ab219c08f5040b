"""Is the data whole? Every image decodes, counts and digests agree, benchmark rows are parallel across languages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

import pandas as pd

from parrot.config.benchmarks import Benchmark, check_distinct
from parrot.config.catalog import BackboneFolder, ConversationSet, Dataset, ImageArchive, Language
from parrot.config.stages import Tokenisation
from parrot.data.benchmarks import check_parallel, read_language, without_control
from parrot.data.conversations import Tokenizes, blocks, samples
from parrot.data.images import Inspection, inspect_image
from parrot.data.samples import Reading
from parrot.data.tsv import Rejection, inspect_encoded
from parrot.errors import UserError
from parrot.io.archives import open_archive
from parrot.io.digests import file_md5, file_sha256

WEIGHTS = "model.safetensors"
Item = TypeVar("Item")


@dataclass
class Findings:
    """What was checked, by name of the catalogue, and what is wrong, one line each.

    `rejected` has the rows, one line each by file, that benchmarks leave out because their entries say so, `left_out`
    the samples that sets leave out. `images` counts different images, and those whose files say what a switch of
    `model:` decides about, by its name.
    """

    checked: dict[str, dict[str, int]] = field(default_factory=dict)
    rejected: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)

    def add_images(self, inspections: Iterable[Inspection]) -> None:
        """Count what was found of different images."""
        for found in inspections:
            self.images.update(["inspected", *found.traits])
            self.problems += [found.fault] if found.fault else []


def inspect(
    datasets: Mapping[str, Dataset],
    benchmarks: Mapping[str, Benchmark],
    tokenisations: Sequence[Tokenisation] = (),
    archives: Mapping[str, ImageArchive] = MappingProxyType({}),
) -> Findings:
    """Check everything that is named; nothing is changed and no problem is an exception.

    Conversation sets are read as each of `tokenisations` reads them for training, where their backbones allow it.
    Archives that are there are compared with their number of members; a download was compared with its digest.
    """
    findings = Findings()
    for name, archive in archives.items():
        if Path(archive.file).exists():
            _inspect_archive(name, archive, findings)
    for name, backbone in datasets.items():
        if isinstance(backbone, BackboneFolder):
            _inspect_backbone(name, backbone, findings)
    _inspect_conversations(datasets, [] if findings.problems else tokenisations, findings)
    for name, benchmark in benchmarks.items():
        _inspect_benchmark(name, benchmark, findings)
    return findings


def _inspect_conversations(
    datasets: Mapping[str, Dataset], tokenisations: Sequence[Tokenisation], findings: Findings
) -> None:
    try:
        ways = readers(datasets, tokenisations)
    except UserError as error:
        findings.problems.append(str(error))
        ways = {}
    images: dict[str, str] = {}  # each with the first sample that shows it
    shown: dict[str, int] = {}  # samples with images of each sound set
    for name, entry in datasets.items():
        if isinstance(entry, ConversationSet):
            found = inspect_set(entry, ways.get(name, ()))
            findings.problems += found.problems
            shown |= {} if found.problems else {name: found.counts["with_image"]}
            findings.checked |= {name: found.counts} if found.counts else {}
            findings.left_out |= {entry.file: found.left_out} if found.left_out else {}
            images = found.images | images
            _inspect_digest(entry.file, entry.sha256, findings)
    for stage in tokenisations:
        if not any(shown.get(name, 1) for name in stage.sets):
            sets = ", ".join(stage.sets)
            findings.problems.append(f"{stage.stage}: {sets}: expected samples with images, found none")
    findings.add_images(_map(inspect_image, [(path, f"{where}: image: {path}") for path, where in images.items()]))


def _inspect_archive(name: str, archive: ImageArchive, findings: Findings) -> None:
    try:
        found = len(open_archive(archive.file))
    except UserError as error:
        findings.problems.append(str(error))
        return
    findings.checked[name] = {"members": found}
    expected = archive.enforced("members")
    if expected is not None and found != expected:
        findings.problems.append(f"{archive.file}: members: expected {expected}, found {found}")


def _inspect_backbone(name: str, entry: BackboneFolder, findings: Findings) -> None:
    from parrot.model.folder import check_folder  # here, since it imports torch

    try:
        check_folder(entry.path)
    except UserError as error:
        findings.problems.append(str(error))
        return
    sizes = [path.stat().st_size for path in Path(entry.path).glob("*.safetensors")]
    findings.checked[name] = {"weight_bytes": sum(sizes)}
    _inspect_digest(Path(entry.path, WEIGHTS), entry.sha256, findings)


def _inspect_benchmark(name: str, benchmark: Benchmark, findings: Findings) -> None:
    tables: dict[Language, pd.DataFrame] = {}
    rejected: dict[Language, list[Rejection]] = {}
    try:
        check_distinct({name: benchmark}, benchmark.controls, "benchmarks")
    except UserError as error:
        findings.problems.append(str(error))
    for language, file in benchmark.files.items():
        path = Path(benchmark.folder, file)
        if path.is_file():
            _inspect_digest(path, benchmark.md5.get(language), findings, "md5")
        try:
            tables[language], rejected[language] = read_language(benchmark, language)
        except UserError as error:
            findings.problems.append(str(error))
            continue
        if benchmark.rejected_rows == "refuse":
            lacking = [row for control in benchmark.controls for row in without_control(tables[language], control)[:1]]
            findings.problems += [f"{path}: {row}" for row in lacking]
        count = len(tables[language]) + len(rejected[language])
        if rejected[language]:
            findings.rejected[str(path)] = [str(row) for row in rejected[language]]
        if benchmark.rows is not None and count != benchmark.rows:
            findings.problems.append(f"{path}: rows: expected {benchmark.rows}, found {count}")
    if len(tables) < len(benchmark.files):
        return
    findings.checked[name] = {language: len(table) for language, table in tables.items()}
    try:
        check_parallel(_shared(tables, rejected), benchmark.name)
    except UserError as error:
        findings.problems.append(str(error))
    findings.add_images(_map(inspect_encoded, _images(benchmark, tables)))


def _shared(
    tables: Mapping[Language, pd.DataFrame], rejected: Mapping[Language, list[Rejection]]
) -> dict[Language, pd.DataFrame]:
    """Drop the rows that some language lacks because it rejects them, with or without a readable index."""
    everywhere = {index for table in tables.values() for index in table["index"]}
    excused: set[str] = set()
    for language, table in tables.items():
        lacking = everywhere - set(table["index"])
        named = {row.index for row in rejected[language] if row.index}
        unnamed = sum(not row.index for row in rejected[language])
        if len(lacking - named) <= unnamed:
            excused |= lacking
    return {language: table[~table["index"].isin(excused)] for language, table in tables.items()}


def _images(benchmark: Benchmark, tables: Mapping[Language, pd.DataFrame]) -> list[tuple[str, str]]:
    """Every different image of a benchmark, with the first row that shows it."""
    found: dict[str, str] = {}
    for language, table in tables.items():
        path = Path(benchmark.folder, benchmark.files[language])
        for index, image in zip(table["index"], table["image"], strict=True):
            found.setdefault(image, f"{path}: row {index}")
    return list(found.items())


def _inspect_digest(
    path: str | Path, expected: str | None, findings: Findings, kind: Literal["sha256", "md5"] = "sha256"
) -> None:
    if expected is None:
        return
    digest = {"sha256": file_sha256, "md5": file_md5}[kind]
    found = digest(path) if Path(path).is_file() else "no file"
    if found != expected:
        findings.problems.append(f"{path}: {kind}: expected {expected}, found {found}")


def _map(inspect_one: Callable[[Item, str], Inspection], images: Sequence[tuple[Item, str]]) -> Iterable[Inspection]:
    """`inspect_one` of each image on as many threads as there are cores: decoders release Python's lock."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(inspect_one, *zip(*images, strict=True)))


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
    """Every way in which training reads each set.

    Raises:
        UserError: a backbone without a readable tokenizer.
    """
    from parrot.model.processing_parrot import processor_of

    found: dict[str, list[Reader]] = {}
    for each in tokenisations:
        folders = [_path(datasets[name]) for name in (each.vision_tower, each.language_model)]
        try:
            reader = Reader(processor_of(folders[0], folders[1], each.vision_feature_select), each.max_length)
        except (OSError, ValueError) as error:
            raise UserError(f"{' and '.join(folders)}: no readable tokenizer and image size: {error}") from None
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
    except UserError as error:
        return Inspected({}, [str(error)], [], {})
    left_out = reading.accepted()
    counts: dict[str, int] = {
        "samples": reading.samples,
        "with_image": shown,
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
            yield str(sample["id"]), entry.image_path(sample["image"]) if "image" in sample else None, 0
        return
    for block in blocks(entry, *reader, reading):
        yield from zip(*(block[name].to_pylist() for name in ("id", "image", "supervised")), strict=True)


def _against_entry(entry: ConversationSet, reading: Reading) -> Iterator[str]:
    """Yield what is not as the catalogue says, and ids that are not unique."""
    if entry.samples is not None and reading.samples != entry.samples:
        yield f"{entry.file}: samples: expected {entry.samples}, found {reading.samples}"
    for identifier in sorted(set(entry.accepted_losses) - reading.ids.keys()):
        yield f"{entry.file}: accepted_losses: there is no sample {identifier}"
    repeated = [identifier for identifier, count in reading.ids.items() if count > 1]
    if repeated and entry.ids == "unique":
        others = f" and so do {len(repeated) - 1} others" if len(repeated) > 1 else ""
        yield f"{entry.file}: id: {repeated[0]} occurs more than once{others}"


def _path(backbone: Dataset) -> str:
    assert isinstance(backbone, BackboneFolder), "a run's settings name backbones as such"
    return backbone.path
