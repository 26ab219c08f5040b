"""Making or downloading what the catalogues name, then checking that it is whole."""

from __future__ import annotations

import filecmp
import shutil
import sys
import time
import urllib.error
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import BackboneFolder, ConversationSet, Dataset, HubFile, HubFolder, Language, WebFolder
from parrot.config.stages import Tokenisation
from parrot.data.rgb import TRAITS
from parrot.errors import UserError, is_of_disk
from parrot.fetch.integrity import inspect
from parrot.io.files import atomic_path, make_folder, replace, replace_folder, write_json
from parrot.io.lock import exclusive_lock
from parrot.io.web import open_address, shown, without_secrets
from parrot.mini import COMPOSED, RESOURCES

WAITS = (1, 5, 20)  # seconds between attempts at a file
SILENCE = 60  # seconds without a byte after which a web server is given up
# What transformers reads of a model repository; other formats of the same weights stay where they are.
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


def fetch(
    datasets: Mapping[str, Dataset],
    benchmarks: Mapping[str, Benchmark],
    check: bool,
    report: Path | None,
    tokenisations: Sequence[Tokenisation] = (),
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
        for entry in (*datasets.values(), *benchmarks.values()):
            download(entry)
    findings = inspect(datasets, benchmarks, tokenisations)
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


def download(entry: Dataset | Benchmark) -> None:
    """Download what `entry` names from the Hugging Face hub or the web, unless it is there or comes from elsewhere."""
    source = entry.source
    if isinstance(entry, ConversationSet) and isinstance(source, HubFile):
        _place(source, "dataset", [source.file], {source.file: Path(entry.file)})
    elif isinstance(entry, Benchmark) and isinstance(source, HubFolder):
        files = entry.files | entry.published_as
        names = {str(Path(source.folder, files[lang])): Path(entry.folder, file) for lang, file in entry.files.items()}
        _place(source, "dataset", list(names), names)
    elif isinstance(entry, Benchmark) and isinstance(source, WebFolder):
        for language, file in entry.files.items():
            _download(f"{source.url}/{entry.published_as.get(language, file)}", Path(entry.folder, file))
    elif isinstance(entry, BackboneFolder) and isinstance(source, HubFolder):
        patterns = [str(Path(source.folder, pattern)) for pattern in MODEL_FILES]
        _place(source, "model", patterns, {source.folder or ".": Path(entry.path)})


def _download(url: str, target: Path) -> None:
    """Download a file, again after each of `WAITS` where the server may answer later.

    Raises:
        UserError: no attempt succeeds.
    """
    if target.exists():
        return
    for wait in (*WAITS, None):
        try:
            return _download_once(url, target)
        except (OSError, ValueError) as error:
            if is_of_disk(error):
                raise
            if wait is None or not _may_pass(error):
                why = without_secrets(" ".join(str(error).split()), url)
                said = f"no byte came for {SILENCE} s" if isinstance(error, TimeoutError) else why
                raise UserError(f"{shown(url)}: cannot be downloaded: {said}") from None
            time.sleep(wait)


def _download_once(url: str, target: Path) -> None:
    with (
        atomic_path(target) as partial,
        open_address(url, SILENCE) as answer,
        open(partial, "wb") as file,
    ):
        shutil.copyfileobj(answer, file)
        if missing := getattr(answer, "length", None):  # of an HTTP answer, which may be cut short unnoticed
            raise OSError(f"it ended {missing} bytes early")


def _may_pass(error: Exception) -> bool:
    """Return whether a download that failed so may succeed later: overloaded, silent or interrupted servers."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, OSError)


def staging_name(repository: str) -> str:
    """Name the folder, beside the final one, from which an interrupted download of a hub repository goes on."""
    return f".{repository.replace('/', '--')}.hub"


def _place(source: HubFile | HubFolder, kind: str, patterns: list[str], names: Mapping[str, Path]) -> None:
    """Download into a folder beside the first target and rename; an interrupted download goes on from there."""
    if all(target.exists() for target in names.values()):
        return
    staging = next(iter(names.values())).parent / staging_name(source.repository)
    with exclusive_lock(staging, "downloading", wait=True):
        if not all(target.exists() for target in names.values()):  # what was waited for may have brought them
            _download_from_hub(source, kind, patterns, names, staging)


def _download_from_hub(
    source: HubFile | HubFolder, kind: str, patterns: list[str], names: Mapping[str, Path], staging: Path
) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            source.repository,
            repo_type=kind,
            revision=source.revision,
            allow_patterns=patterns,
            local_dir=staging,
        )
    except Exception as error:  # the client lets through what its transport library raises
        if is_of_disk(error):
            raise
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{source.repository}: cannot be downloaded from the Hugging Face hub: {why}") from None
    shutil.rmtree(staging / ".cache", ignore_errors=True)
    for name, target in names.items():
        if not (staging / name).exists():
            raise UserError(f"{source.repository}: revision {source.revision} has no {name}")
        make_folder(target.parent)
        replace(staging / name, target)
    shutil.rmtree(staging, ignore_errors=True)


def _instruction(benchmarks: Mapping[str, Benchmark]) -> Mapping[Language, str]:
    """Return the closing sentences of composed questions: those of the composed benchmarks."""
    return next(entry.instruction for entry in benchmarks.values() if entry.source == "composed")


def _equal(one: Path, other: Path) -> bool:
    files = [sorted(path.relative_to(folder) for path in _files(folder)) for folder in (one, other)]
    return files[0] == files[1] and not any(filecmp.cmpfiles(one, other, map(str, files[0]), shallow=False)[1:])


def _files(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
