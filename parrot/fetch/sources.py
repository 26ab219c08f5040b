"""What the catalogues' entries download, and which of the archives a run's images need."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import (
    ArchiveFile,
    BackboneFolder,
    ConversationSet,
    Dataset,
    HubFile,
    HubFolder,
    ImageArchive,
    WebFolder,
)
from parrot.data.json_stream import elements
from parrot.errors import UserError
from parrot.fetch import hub
from parrot.fetch.download import Download, fault_of
from parrot.fetch.pickled_weights import convert
from parrot.io.files import make_folder, replace, write_json
from parrot.io.web import shown

# What transformers reads of a model repository; other formats of the same weights stay where they are.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
WEIGHTS = "model.safetensors"
PLACED = Path("data/placed")  # where a person puts what no program may download


def staging_of(entry: BackboneFolder) -> Path:
    """Return the folder, beside the final one, that a model's files are downloaded to until all are there."""
    path = Path(entry.path)
    return path.with_name(f".{path.name}.hub")


def is_missing(entry: Dataset | Benchmark) -> bool:
    """Tell whether something that the entry downloads is not there."""
    if isinstance(entry.source, str):
        return False
    match entry:
        case ConversationSet():
            return not Path(entry.file).exists()
        case BackboneFolder():
            return not Path(entry.path).exists()
        case Benchmark():
            return not all(Path(entry.folder, file).exists() for file in entry.files.values())


def place_of(entry: Dataset | Benchmark) -> str:
    """Return the file or folder that an entry is read from."""
    match entry:
        case ConversationSet():
            return entry.file
        case BackboneFolder():
            return entry.path
        case Benchmark():
            return entry.folder


def page_of(entry: Dataset | Benchmark) -> str:
    """Return the address at which a person finds what an entry downloads."""
    match entry.source:
        case HubFile() as source:
            return hub.url_of(source)
        case HubFolder() as source:
            kind = "" if isinstance(entry, BackboneFolder) else "datasets/"
            return f"{hub.endpoint()}/{kind}{source.repository}/tree/{source.revision}/{source.folder}".rstrip("/")
        case WebFolder() as source:
            return source.url
    return ""


def downloads_of(entry: Dataset | Benchmark) -> list[Download]:
    """Return what an entry downloads.

    Raises:
        UserError: the hub does not have it.
    """
    match entry, entry.source:
        case ConversationSet(), HubFile() as source:
            digests = {"sha256": entry.sha256} if entry.sha256 else {}
            return [_file(source.repository, source.revision, source.file, Path(entry.file), digests)]
        case Benchmark(), HubFolder() as source:
            return [
                _file(source.repository, source.revision, f"{source.folder}/{name}".lstrip("/"), path, digests)
                for name, path, digests in _tables(entry)
            ]
        case Benchmark(), WebFolder() as source:
            return [
                Download(path, (f"{source.url}/{name}",), digests=digests) for name, path, digests in _tables(entry)
            ]
        case BackboneFolder(), HubFolder() as source:
            staging = staging_of(entry)
            names = (*MODEL_FILES, *((entry.pickle.file,) if entry.pickle else ()))
            return hub.files_of(source.repository, "model", source.revision, names, source.folder, staging)
    return []


def _tables(entry: Benchmark) -> Iterator[tuple[str, Path, dict[str, str]]]:
    """Yield each file's published name, where it is placed, and its digests."""
    for language, file in entry.files.items():
        digests = {"md5": entry.md5[language]} if language in entry.md5 else {}
        yield entry.published_as.get(language, file), Path(entry.folder, file), digests


def _file(repository: str, revision: str, path: str, target: Path, digests: Mapping[str, str]) -> Download:
    """Return the download of one file of a data set, held to the hub's digest and to `digests`."""
    folder, _, name = path.rpartition("/")
    (one,) = hub.files_of(repository, "dataset", revision, (name,), folder, target.parent)
    return dataclasses.replace(one, target=target, digests={**one.digests, **digests})


def of_archive(archive: ImageArchive) -> list[Download]:
    """Return the files of an archive, all its volumes, that are not there."""
    path = Path(archive.file)
    parts: dict[str, ArchiveFile] = {**archive.volumes, path.suffix.removeprefix("."): archive}
    found = []
    for ending, part in parts.items():
        urls = tuple(
            hub.url_of(source.model_copy(update={"file": _with(source.file, ending)}))
            if isinstance(source, HubFile)
            else _with(source.url, ending)
            for source in archive.sources
        )
        digests = {kind: getattr(part, kind) for kind in ("sha256", "md5") if getattr(part, kind)}
        unverified = archive.unverified if part is archive else ()
        digests = {kind: digest for kind, digest in digests.items() if kind not in unverified}
        size = None if "bytes" in unverified else part.bytes
        found.append(Download(path.with_suffix(f".{ending}"), urls, size, digests, hub.authorization()))
    return [one for one in found if not one.target.exists()]


def _with(name: str, ending: str) -> str:
    return f"{name.rpartition('.')[0]}.{ending}"


def finish(entry: Dataset | Benchmark, downloads: Sequence[Download]) -> None:
    """Give a model's folder its name, once all its `downloads` are there; convert its weights if they are a pickle.

    Raises:
        UserError: the pickle is not the pinned one, or holds anything but tensors.
    """
    if isinstance(entry, BackboneFolder):
        staging = staging_of(entry)
        if staging.exists() and all(one.target.exists() for one in downloads if one.target.parent == staging):
            if entry.pickle is not None:
                pickle = staging / entry.pickle.file
                digest = convert(pickle, staging / WEIGHTS, entry.pickle.sha256)
                write_json(staging / "converted.json", {"from": entry.pickle.model_dump(), "sha256": digest})
                pickle.unlink()
            replace(staging, Path(entry.path))


def needed(
    archives: Mapping[str, ImageArchive], datasets: Mapping[str, Dataset]
) -> tuple[list[ImageArchive], list[str]]:
    """Return the archives that images of the sets lie in, and the names of others that missing JSON files may name.

    Raises:
        UserError: images begin with what no archive has; the line has their number and an example.
    """
    known = {archive.place: name for name, archive in archives.items()}
    used, unread = set[str](), set[str]()
    for entry in datasets.values():
        if isinstance(entry, ConversationSet) and known.keys() & set(entry.image_places.values()):
            if Path(entry.file).is_file():
                used |= _places(entry)
            else:
                unread |= {place for place in entry.image_places.values() if place in known}
    later = [known[place] for place in known if place in unread - used and of_archive(archives[known[place]])]
    return [archive for archive in archives.values() if archive.place in used], later


def _places(entry: ConversationSet) -> set[str]:
    used, unknown, example = set(), Counter[str](), dict[str, str]()
    for sample in elements(entry.file):
        image = sample.get("image") if isinstance(sample, dict) else None
        if not isinstance(image, str):
            continue  # text alone, or a fault that the check names
        try:
            used.add(entry.place_of(image)[0])
        except ValueError:
            prefix = "/".join(image.split("/")[:-1])
            unknown[prefix] += 1
            example.setdefault(prefix, image)
    if unknown:
        prefix, count = unknown.most_common(1)[0]
        known = " or ".join(entry.image_places)
        raise UserError(
            f"{entry.file}: image: expected paths that begin with {known} (images), found {count} in {prefix}/, "
            f"such as {example[prefix]}" + (f"; and {len(unknown) - 1} other folders" if len(unknown) > 1 else "")
        )
    return used


def take_placed(downloads: Sequence[Download]) -> dict[Path, str]:
    """Move files that a person put into `PLACED` to where they belong; return why others were refused, by target.

    A file is known by its published name and taken if its digest, or else its size, agrees; several archives share a
    name such as images.zip.
    """
    refused: dict[Path, tuple[Path, str]] = {}
    for one in downloads:
        for name in dict.fromkeys((one.target.name, *(url.split("?")[0].rpartition("/")[2] for url in one.urls))):
            path = PLACED / name
            if not path.is_file() or one.target.exists():
                continue
            if not one.digests and one.size is None:
                refused[one.target] = path, f"neither its size nor its digest is known; put it at {one.target}"
            elif wrong := fault_of(path, one.size, one.digests):
                refused[one.target] = path, wrong
            else:
                make_folder(one.target.parent)
                shutil.move(path, one.target)
    # What one entry refuses may be another's of the same name.
    return {target: f"{path}: {why}" for target, (path, why) in refused.items() if path.exists()}


def by_hand(one: Download) -> str:
    """Say what a person has to bring: from where, how large, with which digest, and where to."""
    size = f"{one.size / 1e9:.2f} GB" if one.size else "size unknown"
    digests = ", ".join(f"{kind} {digest}" for kind, digest in one.digests.items()) or "digest unknown"
    return f"{shown(one.urls[0])} ({size}, {digests}) -> {PLACED / one.urls[0].rpartition('/')[2]} or {one.target}"
