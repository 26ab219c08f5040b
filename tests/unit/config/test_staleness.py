"""What makes a result out of date: values and what code does, not their wording and not the code beside it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from parrot.config import code
from parrot.config.code import files
from parrot.config.staleness import NOWHERE, STAGES, canonical, code_digest, code_of, key, verdict
from parrot.config.suite import Suite

REPOSITORY = Path(__file__).parents[3]
LISTS = "parrot/config/staleness.py"


def test_canonical_ignores_key_order():
    assert canonical({"b": 1, "a": [1, {"d": 2, "c": 3}]}) == '{"a":[1,{"c":3,"d":2}],"b":1}'
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    assert key({"a": 1}) != key({"a": 2})


# --- the lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_that_a_stage_uses_is_decided_about(stage):
    undecided = sorted(name for name in used_by(stage) if verdict(name, stage) is None)
    assert not undecided, (
        f"{undecided}: in {LISTS} name each in STAGES[{stage!r}] (always or parts: it decides the numbers of {stage}; "
        "beside: it decides another stage's) or, where it decides no stage's numbers, in NOWHERE"
    )


def test_every_entry_names_a_file_or_package():
    entries = {entry for stage in STAGES.values() for entry in listed(stage)}
    entries |= {entry for group in NOWHERE.values() for entry in group}
    missing = sorted(entry for entry in entries if not any(fits(entry, name) for name in files()))
    assert not missing, f"{missing}: in {LISTS} write where they are, or remove them"


@pytest.mark.parametrize("stage", STAGES)
def test_no_entry_is_decided_about_twice(stage):
    decides = {*STAGES[stage].always, *(entry for part in STAGES[stage].parts.values() for entry in part)}
    twice = sorted(decides & {*STAGES[stage].beside})
    assert not twice, f"{twice}: in {LISTS} leave each in one list"


def listed(stage):
    return (*stage.always, *(entry for part in stage.parts.values() for entry in part), *stage.beside)


def fits(entry: str, name: str) -> bool:
    return name == entry or name.startswith(f"{entry}.")


def used_by(stage: str) -> set[str]:
    """What decides the stage's numbers, the modules of this package that it imports, at any depth, and templates."""
    seen: set[str] = set()
    waiting = [name for name in files() if verdict(name, stage) == "decides"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += imports(name)
    folders = {files()[name].parent for name in seen}
    within = folders - {REPOSITORY / "parrot"}
    others = {name: path for name, path in files().items() if path.suffix != ".py"}
    return seen | {name for name, path in others.items() if path.parent in folders or within & {*path.parents}}


@cache
def imports(name: str) -> frozenset[str]:
    path, found = files()[name], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.suffix == ".py" else ():
        named = []
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in named:
            found |= {module, f"{module}.__init__"} & files().keys()
    return frozenset(found) - empty()


@cache
def empty() -> set[str]:
    """Packages' own files that hold nothing but a docstring."""
    return {
        name
        for name, path in files().items()
        if path.name == "__init__.py" and len(ast.parse(path.read_text(encoding="utf-8")).body) < 2
    }


# --- what an edit changes --------------------------------------------------------------------------------------------

JOBS = {
    "fetch": ("fetch", "composed"),
    "align": ("align",),
    "tune": ("tune", "experts"),
    "tune, no experts": ("tune",),
    "tune, adapters": ("tune", "experts", "adapters"),
    "predict": ("predict", "own model"),
    "predict, another model": ("predict", "other model"),
    "predict, translated": ("predict", "own model", "English questions", "translation model"),
    "score": ("score",),
    "score, judge": ("score", "judge"),
    "report": ("report",),
    "predictions_page": ("predictions_page",),
}
TUNINGS = {"tune", "tune, no experts", "tune, adapters"}
PREDICTIONS = {"predict", "predict, another model", "predict, translated"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, which digests are taken of."""
    folder = tmp_path / "parrot"
    shutil.copytree(REPOSITORY / "parrot", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", folder)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def forget() -> None:
    for kept in (code.files, code._read, code_digest):
        kept.cache_clear()


def digests() -> dict[str, str]:
    forget()
    return {job: code_digest(*stage) for job, stage in JOBS.items()}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path}: {old!r} is not there"
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("__init__.py", '__version__ = "', '__version__ = "9.'),
        ("train/callbacks.py", "samples/s", "samples per second"),
        ("data/images.py", "{where} is missing", "{where} is not there"),
        ("evaluate/judge.py", "does not respond", "is silent"),
        ("evaluate/translate.py", "were cut off", "ended"),
        ("evaluate/predict.py", "rows rejected", "rows are rejected"),
        ("evaluate/matching.py", "def infer(", "# A remark.\n\ndef infer("),
        ("model/router.py", "import torch\n", "import torch\nfrom typing import Final\n"),
        ("train/batches.py", '"""Optimiser steps of', '"""How many steps are in'),
        ("data/collate.py", ") -> ", ") -> None | "),
    ],
)
def test_wording_changes_nothing(package, file, old, new):
    before = digests()
    replace(package / file, old, new)
    assert digests() == before


@pytest.mark.parametrize(
    ("file", "jobs"),
    [
        ("evaluate/matching.py", {"score", "score, judge", "report", "predictions_page"}),
        ("evaluate/judge.py", {"score, judge"}),
        ("evaluate/prompts.py", {*PREDICTIONS, "score", "score, judge", "report", "predictions_page"}),
        ("evaluate/translate.py", {"predict, translated"}),
        ("evaluate/hf_predictor.py", {"predict, another model"}),
        ("train/batches.py", {"align", *TUNINGS}),
        ("train/adapters.py", {"tune, adapters"}),
        ("model/experts.py", {"tune", "tune, adapters", *PREDICTIONS}),
        ("model/modeling_parrot.py", {"align", *TUNINGS, *PREDICTIONS}),
        ("mini/compose/training_questions.py", {"fetch"}),
        ("report/page.css", {"report"}),
        ("languages.csv", {"predict, translated", "report", "predictions_page"}),
        ("report/browse.js", {"predictions_page"}),
        ("config/settings.py", set()),
        ("train/checkpoints.py", set()),
    ],
)
def test_code_changes_the_jobs_whose_numbers_it_decides(package, file, jobs):
    before = digests()
    with open(package / file, "a", encoding="utf-8") as added:
        added.write("\nEPSILON = 1e-9\n")
    after = digests()
    assert {job for job in JOBS if after[job] != before[job]} == jobs


def test_a_changed_constant_counts(package):
    before = digests()
    replace(package / "train/strategy.py", "adamw_torch_fused", "adamw_torch")
    after = digests()
    assert {job for job in JOBS if after[job] != before[job]} == {"align", *TUNINGS}


def test_code_that_moves_to_another_file_changes_nothing(package):
    before = digests()
    matching, postprocess = package / "evaluate/matching.py", package / "evaluate/postprocess.py"
    matching.write_text(matching.read_text() + postprocess.read_text())
    postprocess.write_text('"""Empty."""\n')
    replace(
        package / "evaluate/grading.py",
        "from parrot.evaluate.postprocess import",
        "from parrot.evaluate.matching import",
    )
    assert digests() == before


def test_another_function_of_the_same_name_counts(package):
    with open(package / "evaluate/postprocess.py", "a") as file:
        file.write("\ndef infer(*_):\n    return None\n")
    before = digests()
    replace(
        package / "evaluate/grading.py",
        "from parrot.evaluate.matching import",
        "from parrot.evaluate.postprocess import",
    )
    assert digests()["score"] != before["score"]


# --- which parts a run uses ------------------------------------------------------------------------------------------


def test_parts_are_those_of_the_runs_settings():
    suite = Suite.load()
    runs = {name: suite.run(name) for name in ("parrot", "no_experts", "lora", "qwen2_vl", "translate_test")}
    assert code_of(runs["parrot"].align) == code_digest("align")
    assert code_of(runs["parrot"].tune) == code_digest("tune", "experts")
    assert code_of(runs["no_experts"].tune) == code_digest("tune")
    assert code_of(runs["lora"].tune) == code_digest("tune", "experts", "adapters")
    assert code_of(runs["parrot"].predict) == code_digest("predict", "own model")
    assert code_of(runs["qwen2_vl"].predict) == code_digest("predict", "other model")
    assert code_of(runs["translate_test"].predict) == code_digest("predict", "own model", "English questions")
    assert code_of(runs["parrot"].score) == code_digest("score")
    assert code_of(runs["parrot"].fetch) == code_digest("fetch", "composed")
