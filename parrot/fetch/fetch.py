"""Making or downloading what the catalogues name, then checking that it is whole."""

from __future__ import annotations

import filecmp
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import Dataset, ImageArchive, Language
from parrot.config.stages import Tokenisation
from parrot.data.rgb import TRAITS
from parrot.errors import UserError
from parrot.fetch.download import Download, download_all
from parrot.fetch.hub import OFFLINE, is_offline
from parrot.fetch.integrity import inspect
from parrot.fetch.sources import (
    by_hand,
    downloads_of,
    finish,
    is_missing,
    needed,
    of_archive,
    page_of,
    place_of,
    take_placed,
)
from parrot.io.files import replace_folder, write_json
from parrot.io.lock import exclusive_lock
from parrot.mini import COMPOSED, RESOURCES

LOCK = Path("data/fetch")


def fetch(
    datasets: Mapping[str, Dataset],
    benchmarks: Mapping[str, Benchmark],
    check: bool,
    report: Path | None,
    tokenisations: Sequence[Tokenisation] = (),
    archives: Mapping[str, ImageArchive] = MappingProxyType({}),
) -> None:
    """Make or download `datasets` and `benchmarks` (not with `check`), check them and write a JSON `report`.

    Conversation sets are checked as each of `tokenisations` reads them for training. Rows and samples that benchmarks
    and sets leave out because their entries say so are counted on stderr and listed in the report.

    Raises:
        UserError: something does not fit; the line names the first problem and counts the others, and the report has
            them all.
    """
    if not check:
        if any(entry.source == "composed" for entry in (*datasets.values(), *benchmarks.values())):
            composed = [entry for entry in benchmarks.values() if entry.source == "composed"]
            own = [Path(entry.folder, file) for entry in composed for file in entry.files.values()]
            compose_mini(_instruction(benchmarks), own)
        lines = bring(datasets, benchmarks, archives)
        for line in lines:
            print(f"parrot: not there: {line}", file=sys.stderr)
        if lines:
            raise UserError(f"{len(lines)} downloads are missing, listed above; bring them and run this again")
    findings = inspect(datasets, benchmarks, tokenisations, archives)
    if report is not None:
        found = {
            "checked": findings.checked,
            "images": findings.images,
            "rejected": findings.rejected,
            "left_out": findings.left_out,
            "problems": findings.problems,
        }
        write_json(report, found)
    for file, rows in findings.rejected.items():
        print(f"parrot: {file}: {len(rows)} rows rejected; the first: {rows[0]}", file=sys.stderr)
    for file, samples in findings.left_out.items():
        print(f"parrot: {file}: {len(samples)} samples left out; the first: {samples[0]}", file=sys.stderr)
    for trait in TRAITS:
        if count := findings.images[trait]:
            print(f"parrot: {count} of {findings.images['inspected']} images: read by model.{trait}", file=sys.stderr)
    if findings.problems:
        first, *others = findings.problems
        listed = f", all in {report}" if report else "; --report FILE lists all"
        more = f" (and {len(others)} more problems{listed})" if others else ""
        raise UserError(first + more)


def compose_mini(instruction: Mapping[Language, str], named: Iterable[Path] = ()) -> None:
    """Compose the mini scale's folder; one that is there and equal is left untouched, since jobs may be reading it.

    Files among `named` that lie in it and are not composed are kept: users add them, such as a further language's.
    """
    from parrot.mini.compose.write import compose

    fresh = COMPOSED.with_name(f".{COMPOSED.name}.fresh")
    with exclusive_lock(fresh, "composing", wait=True):
        try:
            compose(RESOURCES, fresh, instruction)
            for path in named:
                if path.is_file() and path.is_relative_to(COMPOSED):
                    copy = fresh / path.relative_to(COMPOSED)
                    if not copy.exists():
                        shutil.copy2(path, copy)
            if not _equal(fresh, COMPOSED):
                replace_folder(fresh, COMPOSED)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def bring(
    datasets: Mapping[str, Dataset], benchmarks: Mapping[str, Benchmark], archives: Mapping[str, ImageArchive]
) -> list[str]:
    """Download what is not there; return a line for each file that a person has to bring.

    Of the archives those are downloaded that images of the sets' samples lie in, once their JSON files are there.

    Raises:
        UserError: a disk is too small, or samples' images lie in no archive.
    """
    entries = (*datasets.values(), *benchmarks.values())
    if not any(map(is_missing, entries)) and not any(map(of_archive, archives.values())):
        return []
    with exclusive_lock(LOCK, "downloading", wait=True):
        missing = [entry for entry in entries if is_missing(entry)]  # what was waited for may have brought some
        lines, wanted = [], []
        for entry in missing:
            try:
                wanted += downloads_of(entry)
            except UserError as error:
                lines.append(f"{place_of(entry)}: {error}; by hand: {page_of(entry)} -> {place_of(entry)}")
        lines += _brought(wanted)
        for entry in missing:
            try:
                finish(entry, wanted)
            except UserError as error:
                lines.append(str(error))
        used, unread = needed(archives, datasets)
        if unread:
            size = sum(archives[name].bytes or 0 for name in unread) / 1e9
            later = f"{', '.join(unread)}: up to {size:.0f} GB of images"
            lines.append(f"{later}, of which those are downloaded that the missing conversations name")
        return lines + _brought([one for archive in used for one in of_archive(archive)])


def _brought(wanted: Sequence[Download]) -> list[str]:
    refused = take_placed(wanted)
    missing = [one for one in wanted if one.target not in refused and not one.target.exists()]
    offline = {one.target: OFFLINE for one in missing} if is_offline() else {}
    faults = refused | (offline or download_all(missing))
    return [f"{one.target}: {faults[one.target]}; by hand: {by_hand(one)}" for one in wanted if one.target in faults]


def _instruction(benchmarks: Mapping[str, Benchmark]) -> Mapping[Language, str]:
    """Return the closing sentences of composed questions: those of the composed benchmarks."""
    return next(entry.instruction for entry in benchmarks.values() if entry.source == "composed")


def _equal(one: Path, other: Path) -> bool:
    files = [sorted(path.relative_to(folder) for path in _files(folder)) for folder in (one, other)]
    return files[0] == files[1] and not any(filecmp.cmpfiles(one, other, map(str, files[0]), shallow=False)[1:])


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
