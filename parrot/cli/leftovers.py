"""Leftovers of earlier runs: checkpoints, caches and partial files that no run of a config can use.

A name holds a digest of everything that its content depends on. If the name that a run would use cannot be computed,
because data or a projector is missing, every candidate counts as used. Symbolic links are not followed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import BackboneFolder, ConversationSet
from parrot.config.runs import Run
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.config.staleness import code_digest, key
from parrot.config.suite import RESERVED, Suite
from parrot.errors import UserError
from parrot.io.lock import lock_of, unless_held

HOUR = 3600  # seconds without a write after which a partial file's writer is assumed dead
PARTIAL_FILE = re.compile(r"\..*\.[0-9a-f]{32}\.partial(\..*)?")  # `parrot.io.files.atomic_path`
ARROW = re.compile(r".+\.[0-9a-f]{12}\.arrow(\.sha256\.json)?")
PARTIAL_FOLDER = re.compile(r"\..+\.(partial|fresh|hub)")


class Leftover(NamedTuple):
    """A file or folder, why no run can use it, and why it is kept nevertheless ("" if removable)."""

    path: Path
    why: str
    kept: str = ""


class Scale:
    """The runs of a config that resolve at its scale, and the folders that they write to."""

    def __init__(self, suite: Suite):
        self.suite = suite
        self.runs: list[Run] = []
        for name in suite.overrides:
            with suppress(UserError):
                suite.run(name).resolve()
                self.runs.append(suite.run(name))
        self.trained = [run for run in self.runs if run.pretrained_model is None]
        self.work, self.results = Path("work", suite.config.scale), Path("results", suite.config.scale)


def leftovers(suite: Suite) -> list[Leftover]:
    """Return the leftovers in the folders that the suite's scale writes to and next to fetched data."""
    scale = Scale(suite)
    cached = [*_caches(scale), *_predictions(scale), *_translations(scale), *_fingerprints(scale)]
    complete = [*_checkpoints(scale), *cached]
    loose = [*_stamps(scale), *_partial(scale, {each.path for each in complete})]
    return [_unless_in_use(each) for each in (*complete, *loose)] + [*_results(scale)]


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder."""
    return sum(found.st_size for found in _states(path))


def _unless_in_use(found: Leftover) -> Leftover:
    with unless_held(found.path) as holder:
        return found._replace(kept=found.kept or (f"held by {holder}" if holder else ""))


def _checkpoints(scale: Scale) -> Iterator[Leftover]:
    from parrot.train.checkpoints import folder_name

    used = {"align": {folder_name(run.align, None) for run in scale.trained}, "tune": set()}
    for run in scale.trained:
        projector = scale.results / "align" / str(run.stage1_key) / "projector/model.safetensors"
        used["tune"].add(folder_name(run.tune, projector if projector.is_file() else None))
    for stage, names in used.items():
        for path in _entries(scale.work / stage):
            if path.is_dir() and not path.name.startswith((".", *names)):
                yield Leftover(path, "checkpoints of settings or a projector that no run has")


def _caches(scale: Scale) -> Iterator[Leftover]:
    """Yield tokenised sets and cached features, which a running training may have open."""
    trainings = chain(_entries(scale.work / "align"), _entries(scale.work / "tune"))
    kept = next((f"{path} is locked, a training may read it" for path in trainings if _is_held(path)), "")
    arrows = [path for path in _entries(scale.work / "datasets") if ARROW.fullmatch(path.name)]
    used = _tokenised(scale) if arrows else ()
    for path in arrows:
        if not path.name.startswith((".", *used)):
            yield Leftover(path, "a tokenised set that no run reads", kept)
    hardware = [stage for run in scale.trained for stage in (run.config.hardware.align, run.config.hardware.tune)]
    if all(stage.features != "disk" for stage in hardware):
        for path in _entries(scale.work / "features"):
            if not path.name.startswith("."):
                yield Leftover(path, "vision features, which no run caches on disk", kept)


def _tokenised(scale: Scale) -> set[str]:
    """Return the name prefixes of the Arrow files that runs read."""
    from parrot.data.conversations import file_name
    from parrot.model.processing_parrot import processor_of

    processors: dict[tuple[str, str, str], Any] = {}
    names: dict[str, str] = {}
    stages: list[AlignSettings | TuneSettings] = [each for run in scale.trained for each in (run.align, run.tune)]
    for settings in stages:
        sets = settings.data + (settings.validation if isinstance(settings, TuneSettings) else ())
        of = (settings.vision_tower.path, settings.language_model.path, settings.vision_feature_select)
        for entry in sets:
            way = key([entry, of, settings.recipe.max_length])
            if way in names:
                continue
            names[way] = f"{Path(entry.file).stem}."
            if all(Path(folder).is_dir() for folder in of[:2]):
                with suppress(UserError, OSError, ValueError):
                    processors[of] = processors.get(of) or processor_of(*of)
                    names[way] = file_name(entry, processors[of], settings.recipe.max_length)
    return set(names.values())


def _predictions(scale: Scale) -> Iterator[Leftover]:
    folders = [path for path in _entries(scale.work / "predict") if path.is_dir()]
    if not folders:
        return
    from parrot.evaluate.predict import settings_key

    used = {settings_key(settings) for run in scale.runs for settings in (run.predict, run.predict_stage1)}
    for path in folders:
        if not path.name.startswith((".", *(f"{name}-" for name in used))):
            yield Leftover(path, "predictions of settings or code that no run has")


def _translations(scale: Scale) -> Iterator[Leftover]:
    folders = [path for path in _entries(scale.work / "translations") if path.is_dir()]
    models = {run.translator.path: run.translator for run in scale.runs if isinstance(run.translator, BackboneFolder)}
    if not folders or not all(Path(path).is_dir() for path in models):
        return
    from parrot.evaluate.translate import translator_key

    used = {translator_key(model) for model in models.values()}
    for path in folders:
        if not path.name.startswith((".", *used)):
            yield Leftover(path, "translations of a model or code that no run has", _recent(path))


def _fingerprints(scale: Scale) -> Iterator[Leftover]:
    for path in chain.from_iterable(map(_entries, _entries(scale.work / "fingerprints"))):
        if path.name != code_digest("fingerprints"):
            yield Leftover(path, "fingerprints of images that other code took", _recent(path))


def _stamps(scale: Scale) -> Iterator[Leftover]:
    for path in (*scale.results.glob("tracking"), *scale.results.glob("*/tracked")):
        if path.is_file() and not path.is_symlink():
            yield Leftover(path, "a stamp file of an older layout, which nothing reads")


def _partial(scale: Scale, gone: set[Path]) -> Iterator[Leftover]:
    """Yield interrupted writes and free locks, except inside the folders `gone`."""
    from parrot.fetch.sources import staging_of
    from parrot.mini import COMPOSED

    named = [e for run in scale.runs for e in (*run.fetch.datasets.values(), *run.fetch.benchmarks.values())]
    staged = {staging_of(entry).name for entry in named if isinstance(entry, BackboneFolder)}
    every = (*named, *scale.suite.datasets.values(), *scale.suite.benchmarks.values())
    places = {
        COMPOSED.parent,
        *(_place(entry) for entry in every if entry.source not in ("local", "shipped", "unpublished")),
    }
    for path in chain(_walk(scale.work, gone), _walk(scale.results, gone), *map(_entries, sorted(places))):
        name = path.name
        if path.suffix == ".lock" and path.is_file():
            ours = path.is_relative_to(scale.work) or name.endswith((".hub.lock", ".fresh.lock"))
            held = path.with_name(name.removesuffix(".lock"))
            if ours and not _is_held(held):
                yield Leftover(path, "a lock that no process holds")
        elif path.is_dir() and PARTIAL_FOLDER.fullmatch(name) and name not in staged:
            yield Leftover(path, "an incomplete folder", _recent(path))
        elif path.is_file() and PARTIAL_FILE.fullmatch(name):
            yield Leftover(path, "an incomplete file", _recent(path))


def _place(entry: ConversationSet | BackboneFolder | Benchmark) -> Path:
    """Return the folder that an entry is fetched to."""
    match entry:
        case ConversationSet():
            return Path(entry.file).parent
        case BackboneFolder():
            return Path(entry.path).parent
        case Benchmark():
            return Path(entry.folder)


def _results(scale: Scale) -> Iterator[Leftover]:
    """Yield results of stages and runs that are not in the config; they are kept."""
    aligned = {run.stage1_key for run in scale.trained}
    unknown = [path for path in _entries(scale.results / "align") if path.name not in aligned]
    unknown += [path for path in _entries(scale.results) if path.name not in (*RESERVED, *scale.suite.overrides)]
    for path in unknown:
        if path.is_dir() and not path.name.startswith("."):
            yield Leftover(path, "results of a run that is not in the config", "results are never removed")


def _entries(folder: Path) -> list[Path]:
    """Return a folder's entries without symbolic links; none for a missing folder."""
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []


def _walk(folder: Path, without: set[Path]) -> Iterator[Path]:
    """Yield everything below `folder`, except inside partial folders and those in `without`."""
    for path in _entries(folder):
        if path not in without:
            yield path
            if path.is_dir() and not PARTIAL_FOLDER.fullmatch(path.name):
                yield from _walk(path, without)


def _is_held(path: Path) -> bool:
    if not lock_of(path).exists():
        return False
    with unless_held(path) as holder:
        return holder is not None


def _recent(path: Path) -> str:
    newest = max((found.st_mtime for found in _states(path)), default=0.0)
    return "written to within the last hour" if time.time() - newest < HOUR else ""


def _states(path: Path) -> Iterator[os.stat_result]:
    """Yield the stat result of a file or of a folder's files; skip files that vanish meanwhile."""
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    for file in files:
        with suppress(FileNotFoundError):
            yield file.lstat()
