"""What makes a result out of date: the values that a stage reads, and the code that decides its numbers.

Which code that is, is decided here, module by module, for each stage. A module that a stage imports and that is not in
these lists fails `tests/unit/config/test_staleness.py`, so that a new file forces a decision.

An entry is the dotted name of a module, of a package with all that it holds, or of a template or table, such as
``parrot.report.page.css``; a package's own ``__init__.py`` is ``parrot.model.__init__``. The longest entry that fits a
file decides about it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from parrot.config.catalog import BackboneFolder
from parrot.config.code import digest_of, files
from parrot.config.stages import AlignSettings, FetchSettings, PredictSettings, ScoreSettings, TuneSettings


class Stage(NamedTuple):
    """The code of one stage: what decides its numbers always, and with settings that use an optional part.

    `beside` names what the stage imports and what decides the numbers of other stages alone.
    """

    always: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]] = {}
    beside: tuple[str, ...] = ()


IMAGES = ("parrot.data.images", "parrot.data.rgb", "parrot.io.archives")
TOKENS = (
    *("parrot.constants", "parrot.data.conversations", "parrot.data.json_stream", "parrot.data.samples"),
    *("parrot.model.chat_template", "parrot.model.processing_parrot"),
)
MODEL = (
    *("parrot.constants", "parrot.model.build", "parrot.model.chat_template", "parrot.model.configuration_parrot"),
    *("parrot.model.image_processing_parrot", "parrot.model.modeling_parrot", "parrot.model.processing_parrot"),
    *("parrot.model.tokenizer", "parrot.model.weights"),
)
EXPERTS = ("parrot.model.experts", "parrot.model.router")
TRAINING = (
    *(*IMAGES, *TOKENS, *MODEL, "parrot.model.loss", "parrot.data.collate", "parrot.train.batches"),
    *("parrot.train.precompute", "parrot.train.sharded", "parrot.train.stages", "parrot.train.strategy"),
    "parrot.train.trainer",
)
TABLES = ("parrot.constants", "parrot.data.benchmarks", "parrot.data.tsv")
# The catalogue words prompts by kind.
BENCHMARKS = (*TABLES, "parrot.config.benchmarks", "parrot.evaluate.kinds", "parrot.evaluate.prompts")
GRADING = (
    *(*BENCHMARKS, "parrot.evaluate.bootstrap", "parrot.evaluate.graded_csv", "parrot.evaluate.grading"),
    *("parrot.evaluate.circular", "parrot.evaluate.matching", "parrot.evaluate.metrics"),
    *("parrot.evaluate.postprocess", "parrot.evaluate.predictions", "parrot.evaluate.scores_csv"),
)

STAGES: dict[str, Stage] = {
    "fetch": Stage(
        (*IMAGES, *TOKENS, *TABLES, "parrot.fetch"),
        parts={"composed": ("parrot.mini.__init__", "parrot.mini.compose")},
        # A set is read as training reads it to say what does not fit; training looks again. The pin holds the data.
        beside=("parrot.model", "parrot.evaluate"),
    ),
    "align": Stage(TRAINING, beside=(*EXPERTS, "parrot.train.adapters", "parrot.model.convert")),
    "tune": Stage(
        TRAINING,
        parts={"experts": EXPERTS, "adapters": ("parrot.train.adapters",)},
        beside=("parrot.model.convert",),
    ),
    "predict": Stage(
        (
            *(*IMAGES, *BENCHMARKS, *MODEL, *EXPERTS, "parrot.evaluate.generate", "parrot.evaluate.predict"),
            *("parrot.evaluate.items", "parrot.evaluate.model_source", "parrot.evaluate.predictor"),
            "parrot.model.checkpoint",
        ),
        parts={
            "own model": ("parrot.evaluate.parrot_predictor",),
            # Which may be a Parrot model after all, of our own layout or of the released one.
            "other model": (
                *("parrot.evaluate.hf_predictor", "parrot.evaluate.parrot_predictor", "parrot.model.convert"),
                "parrot.model.vlm",
            ),
            "English questions": ("parrot.evaluate.translate",),
            "translation model": ("parrot.languages.csv",),
        },
        # Whoever reads a folder of predictions refuses one that is not as it must be. A kind of benchmark words its
        # questions beside how it grades them, which decides no prediction.
        beside=(
            *("parrot.evaluate.bootstrap", "parrot.evaluate.graded_csv", "parrot.evaluate.grading"),
            *("parrot.evaluate.circular", "parrot.evaluate.judge", "parrot.evaluate.matching"),
            *("parrot.evaluate.metrics", "parrot.evaluate.postprocess", "parrot.evaluate.predictions"),
            *("parrot.evaluate.scores_csv", "parrot.model.loss"),
        ),
    ),
    "score": Stage(
        (*GRADING, "parrot.evaluate.score"),
        parts={"judge": ("parrot.evaluate.judge",)},
        beside=IMAGES,
    ),
    "report": Stage(
        (
            *(*GRADING, *IMAGES, "parrot.report", "parrot.evaluate.router_stats"),
            *("parrot.languages.csv", "parrot.train.record"),
        ),
        beside=("parrot.evaluate.judge", "parrot.report.browse", "parrot.report.overlap"),
    ),
    "predictions_page": Stage(
        (
            *(*GRADING, *IMAGES, "parrot.report.base", "parrot.report.browse", "parrot.report.labels"),
            *("parrot.report.settings", "parrot.languages.csv"),
        ),
        beside=("parrot.evaluate.judge", "parrot.report"),
    ),
    # What is kept in `work/` for several jobs; none of it may come from other code than a job that uses it.
    "tokens": Stage(TOKENS, beside=("parrot.model", *IMAGES)),
    "features": Stage(
        (*IMAGES, "parrot.model.image_processing_parrot", "parrot.model.modeling_parrot", "parrot.train.precompute"),
        beside=("parrot.model", "parrot.constants"),
    ),
    "fingerprints": Stage((*IMAGES, "parrot.data.fingerprints"), beside=("parrot.constants",)),
    "translations": Stage(
        ("parrot.evaluate.translate", "parrot.languages.csv"),
        beside=("parrot.model", "parrot.evaluate", "parrot.data", "parrot.constants"),
    ),
}

# What decides no stage's numbers, and why.
NOWHERE: dict[str, tuple[str, ...]] = {
    "the version, and what a package offers under a shorter name": (
        *("parrot.__init__", "parrot.model.__init__", "parrot.model.convert.__init__"),
    ),
    "resolved values reach a stage through its settings; hardware, limits and estimates change no number": (
        "parrot.config",
    ),
    "errors, files, locks and addresses: a job ends, or goes on as it would": ("parrot.errors", "parrot.io"),
    "checks: they refuse what does not fit, and change nothing": ("parrot.model.folder",),
    "how a job is started, stopped, continued, recorded and shown": (
        *("parrot.train.callbacks", "parrot.train.checkpoints"),
        *("parrot.train.distributed", "parrot.train.live", "parrot.train.memory", "parrot.train.preemption"),
        *("parrot.train.provenance", "parrot.train.system_metrics"),
    ),
    "names, codes and scripts of languages, of which a stage's settings say which it reads": ("parrot.languages.csv",),
    "a store whose every value has a checksum": ("parrot.data.feature_store",),
}


def canonical(value: Any) -> str:
    """Key-sorted JSON without spaces; equal for equal values whatever their order in a file."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_dumped)


def _dumped(value: Any) -> Any:
    """Turn pydantic models, at any depth, into plain values."""
    return value.model_dump(mode="json")


def key(value: Any) -> str:
    """Twelve hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def code_of(settings: FetchSettings | AlignSettings | TuneSettings | PredictSettings | ScoreSettings) -> str:
    """Digest of the code that decides what a job with these settings writes."""
    used: dict[str, bool] = {}
    match settings:
        case FetchSettings():
            stage = "fetch"
            entries = (*settings.datasets.values(), *settings.benchmarks.values())
            used = {"composed": any(entry.source == "composed" for entry in entries)}
        case AlignSettings():
            stage = "align"
        case TuneSettings():
            stage = "tune"
            used = {
                "experts": settings.experts.num_experts > 0,
                "adapters": settings.recipe.language_model == "lora",
            }
        case PredictSettings():
            stage = "predict"
            used = {
                "own model": settings.model is None,
                "other model": settings.model is not None,
                "English questions": settings.translator != "none",
                "translation model": isinstance(settings.translator, BackboneFolder),
            }
        case ScoreSettings():
            stage, used = "score", {"judge": settings.judge is not None}
    return code_digest(stage, *(part for part, is_used in used.items() if is_used))


@cache
def code_digest(stage: str, *parts: str) -> str:
    """Digest of the code that decides the numbers of `stage`, with the optional `parts` that a job of it uses."""
    return digest_of([name for name in files() if verdict(name, stage, parts) == "decides"])


def verdict(name: str, stage: str, parts: tuple[str, ...] | None = None) -> str | None:
    """Return what the lists say of a file: ``decides``, ``not used``, ``beside``, a reason of `NOWHERE`, or None.

    Args:
        name: the file's dotted name, as entries are written.
        stage: a name of `STAGES`.
        parts: the optional parts that are used; None for all.
    """
    listed = STAGES[stage]
    said = {entry: reason for reason, entries in NOWHERE.items() for entry in entries}
    said |= dict.fromkeys(listed.beside, "beside")
    wanted = listed.parts if parts is None else parts
    said |= {entry: "not used" for part, entries in listed.parts.items() if part not in wanted for entry in entries}
    said |= dict.fromkeys((*listed.always, *(entry for part in wanted for entry in listed.parts[part])), "decides")
    pieces = name.split(".")
    prefixes = (".".join(pieces[:count]) for count in range(len(pieces), 0, -1))
    return next((said[prefix] for prefix in prefixes if prefix in said), None)
