"""What earlier starts left behind: checkpoints, caches and partial files that no run of a config can use any more.

Each is found by its name, which is a digest of all that it depends on. Where a name that a run would look for cannot be
known, as data or a projector is not there, everything that might have it counts as used. Links are not followed.
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

from parrot.config.catalog import BackboneFolder, Benchmark, ConversationSet, HubFile, HubFolder
from parrot.config.runs import RESERVED, Run, Suite
from parrot.config.stages import AlignSettings, TuneSettings
from parrot.config.staleness import key
from parrot.errors import UserError
from parrot.io.lock import lock_of, unless_held

HOUR = 3600  # seconds without a write after which whoever wrote a partial file is taken to have ended
PARTIAL_FILE = re.compile(r"\..*\.[0-9a-f]{32}\.partial(\..*)?")  # `parrot.io.files.atomic_path`
ARROW = re.compile(r".+\.[0-9a-f]{12}\.arrow(\.sha256\.json)?")
PARTIAL_FOLDER = re.compile(r"\..+\.(partial|fresh|hub)")


class Leftover(NamedTuple):
    """A file or folder, why no run can use it, and why it stays all the same; "" where it may go."""

    path: Path
    why: str
    kept: str = ""


class Scale:
    """The runs of a config that resolve at its scale, and the folders where they leave things."""

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
    """Whatever no run of `suite` can use; in the folders that its scale writes, and beside data that is fetched."""
    scale = Scale(suite)
    whole = [*_checkpoints(scale), *_caches(scale), *_answers(scale), *_translations(scale)]
    loose = [*_stamps(scale), *_partial(scale, {each.path for each in whole})]
    return [_unless_in_use(each) for each in (*whole, *loose)] + [*_results(scale)]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
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
    """Tokenised sets and features, which whoever trains may have open."""
    trainings = chain(_entries(scale.work / "align"), _entries(scale.work / "tune"))
    kept = next((f"{path} is held, a training may read it" for path in trainings if _is_held(path)), "")
    arrows = [path for path in _entries(scale.work / "datasets") if ARROW.fullmatch(path.name)]
    used = _tokenised(scale) if arrows else ()
    for path in arrows:
        if not path.name.startswith((".", *used)):
            yield Leftover(path, "a tokenised set as no run reads it", kept)
    hardware = [stage for run in scale.trained for stage in (run.config.hardware.align, run.config.hardware.tune)]
    if all(stage.features != "disk" for stage in hardware):
        for path in _entries(scale.work / "features"):
            if not path.name.startswith("."):
                yield Leftover(path, "the encoder's features, which no run keeps on disk", kept)


def _tokenised(scale: Scale) -> set[str]:
    """What the names of the Arrow files start with that runs look for."""
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


def _answers(scale: Scale) -> Iterator[Leftover]:
    folders = [path for path in _entries(scale.work / "predict") if path.is_dir()]
    if not folders:
        return
    from parrot.evaluate.predict import settings_key

    used = {settings_key(asked) for run in scale.runs for asked in (run.predict, run.predict_stage1)}
    for path in folders:
        if not path.name.startswith((".", *(f"{name}-" for name in used))):
            yield Leftover(path, "answers by settings or code that no run has")


def _translations(scale: Scale) -> Iterator[Leftover]:
    folders = [path for path in _entries(scale.work / "translations") if path.is_dir()]
    models = {run.translator.path: run.translator for run in scale.runs if isinstance(run.translator, BackboneFolder)}
    if not folders or not all(Path(path).is_dir() for path in models):
        return
    from parrot.evaluate.translate import translator_key

    used = {translator_key(model) for model in models.values()}
    for path in folders:
        if not path.name.startswith((".", *used)):
            yield Leftover(path, "translations by a model or code that no run has", _recent(path))


def _stamps(scale: Scale) -> Iterator[Leftover]:
    for path in (*scale.results.glob("tracking"), *scale.results.glob("*/tracked")):
        if path.is_file() and not path.is_symlink():
            yield Leftover(path, "a stamp of an older layout, which nothing reads")


def _partial(scale: Scale, gone: set[Path]) -> Iterator[Leftover]:
    """What was cut off while it was written, and locks that nobody holds; not inside of what is `gone` anyway."""
    from parrot.fetch.fetch import staging_name
    from parrot.mini import COMPOSED

    named = [e for run in scale.runs for e in (*run.fetch.datasets.values(), *run.fetch.benchmarks.values())]
    sources = [entry.source for entry in named]
    staged = {staging_name(source.repository) for source in sources if isinstance(source, HubFile | HubFolder)}
    every = (*named, *scale.suite.datasets.values(), *scale.suite.benchmarks.values())
    places = {COMPOSED.parent, *(_place(entry) for entry in every if entry.source not in ("local", "shipped"))}
    for path in chain(_walk(scale.work, gone), _walk(scale.results, gone), *map(_entries, sorted(places))):
        name = path.name
        if path.suffix == ".lock" and path.is_file():
            ours = path.is_relative_to(scale.work) or name.endswith((".hub.lock", ".fresh.lock"))
            held = path.with_name(name.removesuffix(".lock"))
            if ours and not _is_held(held):
                yield Leftover(path, "a lock that nobody holds")
        elif path.is_dir() and PARTIAL_FOLDER.fullmatch(name) and name not in staged:
            yield Leftover(path, "a folder that was not finished", _recent(path))
        elif path.is_file() and PARTIAL_FILE.fullmatch(name):
            yield Leftover(path, "a file that was not finished", _recent(path))


def _place(entry: ConversationSet | BackboneFolder | Benchmark) -> Path:
    """The folder into which the entry is fetched."""
    match entry:
        case ConversationSet():
            return Path(entry.file).parent
        case BackboneFolder():
            return Path(entry.path).parent
        case Benchmark():
            return Path(entry.folder)


def _results(scale: Scale) -> Iterator[Leftover]:
    """Results of stages and runs that the config does not have; they stay."""
    aligned = {run.stage1_key for run in scale.trained}
    unknown = [path for path in _entries(scale.results / "align") if path.name not in aligned]
    unknown += [path for path in _entries(scale.results) if path.name not in (*RESERVED, *scale.suite.overrides)]
    for path in unknown:
        if path.is_dir() and not path.name.startswith("."):
            yield Leftover(path, "results of no run of the config", "results are never removed")


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, links left out; nothing where there is none."""
    return sorted(path for path in folder.iterdir() if not path.is_symlink()) if folder.is_dir() else []


def _walk(folder: Path, without: set[Path]) -> Iterator[Path]:
    """Everything below `folder` but what is in folders that are partial or `without`."""
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
    """What the system says of a file, or of a folder's files; those that go meanwhile are left out."""
    files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names] if path.is_dir() else [path]
    for file in files:
        with suppress(FileNotFoundError):
            yield file.lstat()
