"""predictions.html: every prediction of a run to browse, on one self-contained page that needs no server."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image
from pydantic import FiniteFloat, Json

from parrot.config.base import validate
from parrot.config.benchmarks import KINDS, SCORINGS, Benchmark, Control, prediction_file
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.constants import LANGUAGES
from parrot.data.benchmarks import read_language
from parrot.data.tsv import ROTATION, decode_rgb, image_id, options, records
from parrot.errors import UserError
from parrot.evaluate.graded_csv import of_predictions, read_graded
from parrot.evaluate.grading import prompt_language_of
from parrot.evaluate.predictions import read_predictions, read_rejected
from parrot.io.files import atomic_write
from parrot.report.labels import FOLDER, WORDS, environment, prompt_languages
from parrot.report.settings import BrowseStage

REQUIRED = ("question", "prediction", "prompt_sha256", "image_sha256", "router_weights")
# A rating, which is neither right nor wrong, is told in the run's scores alone.
Outcome = Literal["right", "wrong", "unmatched", "judged"]
# What a control puts in the image's place.
NEEDED: dict[Control, tuple[str, ...]] = {"none": (), "shuffled": ("shuffled",), "text": ("image_text",)}
PIXELS_PER_SIDE = 192
QUALITY = 85
FILTERS = {
    "benchmark": "Benchmark",
    "language": "Language",
    "category": "Question kind",
    "image_source": "Image source",
    "control": "Shown",
    "outcome": "Right or wrong",
}
OUTCOMES = {"right": "right", "wrong": "wrong", "unmatched": "wrong, matches no option", "judged": "rated by a judge"}
KNOWN: dict[str, Mapping[str, str]] = {
    "language": {code: language.name for code, language in LANGUAGES.items()},
    "category": WORDS,
    "control": WORDS,
    "outcome": OUTCOMES,
}


def write(settings: BrowseStage, predictions: Path, graded: Path, output: Path) -> None:
    """Write the page of the run whose folder of predictions is `predictions`, with at most `settings.rows` predictions.

    Raises:
        UserError: a prediction file, a benchmark file or `graded`, the run's graded.csv, is missing or malformed, or
            they do not belong together.
    """
    rows = read_browse_rows(settings, predictions, graded)
    shown = choose(rows, settings.rows)
    images: dict[str, str] = {}
    for benchmark in settings.benchmarks:
        wanted = {row.image for row in shown if row.benchmark == benchmark.name and row.image}
        images |= thumbnails(benchmark, wanted - images.keys())
    known = KNOWN | {"benchmark": {benchmark.name: benchmark.called for benchmark in settings.benchmarks}}
    words = {field: _words(known.get(field, {}), field, shown) for field in FILTERS}
    written = {row.text_language for row in shown}
    rtl = [code for code in LANGUAGES if code in written and LANGUAGES[code].direction == "rtl"]
    template = environment().get_template("browse.html.j2")
    script = (FOLDER / "browse.js").read_text(encoding="utf-8")
    page = template.render(
        settings=settings,
        shown=len(shown),
        total=len(rows),
        scored={b.called: counts for b in settings.benchmarks if (counts := SCORINGS[b.scoring].counts)},
        rejected=_rejected(settings, predictions),
        conventions={name: getattr(settings, name) for name in Conventions.model_fields}
        | {"prompt_language": prompt_languages(settings.prompt_language, settings.benchmarks)},
        # A filter between one thing is none.
        filters={field: (label, words[field]) for field, label in FILTERS.items() if len(words[field]) > 1},
        data=_json({"rows": shown, "images": dict(sorted(images.items())), "words": words, "rtl": rtl}),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    atomic_write(output, page)


def _rejected(settings: BrowseStage, predictions: Path) -> int:
    """Rows that were not asked, over all benchmarks, languages and controls."""
    return sum(
        count
        for benchmark in settings.benchmarks
        for control in settings.controls
        if control in benchmark.controls
        for count in read_rejected(benchmark, predictions, control).values()
    )


def _words(known: Mapping[str, str], field: str, rows: Sequence[BrowseRow]) -> dict[str, str]:
    """Return the values of a field that occur, each in words: known ones first, others in the predictions' order."""
    found = {getattr(row, field): "" for row in rows if getattr(row, field)}
    ordered = [value for value in known if value in found] + [value for value in found if value not in known]
    return {value: known.get(value, value) for value in ordered}


def _json(value: Any) -> Markup:
    """JSON for a script element, which any "<" of a text could end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=vars)
    return Markup(text.replace("<", "\\u003c"))


@dataclass(frozen=True)
class BrowseRow:
    """One row of a prediction file.

    `image` is the id of the image that the model was shown, "" for none, and `scene` that image in words, where
    the benchmark has them. `options` are () where none were offered, `weights` (of the router) for a run without any.
    """

    benchmark: str
    language: Language
    text_language: Language  # what the texts are in: English where they were translated
    control: Control
    index: int
    number: int  # of the question, whichever its rotation
    category: str
    image_source: str
    question: str
    hint: str
    options: tuple[tuple[str, str], ...]
    answer: str
    prediction: str
    outcome: Outcome
    weights: tuple[float, ...]
    image: str
    scene: str


def read_browse_rows(settings: BrowseStage, predictions: Path, graded: Path) -> list[BrowseRow]:
    """List the predictions in a run's folder, control after control, those to one question side by side.

    Raises:
        UserError: a file is missing or malformed, or `graded`, the run's graded.csv, grades other predictions.
    """
    grades = read_graded(graded, settings.run)
    rows = []
    for benchmark in settings.benchmarks:
        controls = [control for control in settings.controls if control in benchmark.controls]
        sheets = [
            row
            for language in benchmark.files
            for row in _read(settings, benchmark, language, controls, predictions, grades, graded)
        ]
        rows += sorted(sheets, key=lambda row: (controls.index(row.control), row.number))
    return rows


def choose(rows: Sequence[BrowseRow], most: int) -> list[BrowseRow]:
    """Return at most `most` rows, in their order: complete questions, drawn by a digest of benchmark and number.

    The draw does not depend on the run, whose pages can so be compared. One question is shown whatever its size.
    """
    sizes: dict[tuple[str, int], int] = {}
    for row in rows:
        sizes[row.benchmark, row.number] = sizes.get((row.benchmark, row.number), 0) + 1
    chosen: set[tuple[str, int]] = set()
    total = 0
    for question in sorted(sizes, key=_order):
        total += sizes[question]
        if total > most and chosen:
            break
        chosen.add(question)
    return [row for row in rows if (row.benchmark, row.number) in chosen]


def _order(question: tuple[str, int]) -> str:
    benchmark, number = question
    return hashlib.sha256(f"{benchmark}:{number}".encode()).hexdigest()


def _read(
    settings: BrowseStage,
    benchmark: Benchmark,
    language: Language,
    controls: Sequence[Control],
    folder: Path,
    grades: pd.DataFrame,
    graded: Path,
) -> Iterator[BrowseRow]:
    paths = {control: prediction_file(folder, benchmark.files[language], control) for control in controls}
    required = (*REQUIRED, KINDS[benchmark.kind].expected)
    tables = {
        control: read_predictions(benchmark, language, folder, control, (*required, *NEEDED[control]))
        for control in controls
    }
    # A row that one control leaves out may be what another one shows.
    rows = {row["index"]: row for table in tables.values() for row in records(table)}
    for control, table in tables.items():
        path = paths[control]
        texts = [text or "[]" for text in table["router_weights"]]
        weights = validate(tuple[Json[tuple[FiniteFloat, ...]], ...], texts, f"{path}: router_weights")
        where = {"run": settings.run, "benchmark": benchmark.name, "language": language, "control": control}
        outcomes = _outcomes(of_predictions(grades, table, graded, **where))
        for row, outcome, experts in zip(records(table), outcomes, weights, strict=True):
            seen = rows.get(row["shuffled"]) if control == "shuffled" else row
            if seen is None:
                raise UserError(f"{path}: row {row['index']}: shuffled: expected the index of another row")
            words = prompt_language_of(language, settings)
            yield _row(benchmark, language, words, control, row, seen, outcome, experts)


def _outcomes(rows: pd.DataFrame) -> list[Outcome]:
    """Return each graded row's outcome; a rating is neither right nor wrong."""
    return [
        "judged" if np.isnan(hit) else "right" if hit else "unmatched" if unmatched else "wrong"
        for hit, unmatched in zip(rows["hit"], rows["unmatched"], strict=True)
    ]


def _row(
    benchmark: Benchmark,
    language: Language,
    words: Language,
    control: Control,
    row: Mapping[str, str],
    seen: Mapping[str, str],
    outcome: Outcome,
    weights: tuple[float, ...],
) -> BrowseRow:
    """Return the page's row for `row`, when the image was that of the row `seen`."""
    index = int(row["index"])
    return BrowseRow(
        benchmark=benchmark.name,
        language=language,
        text_language=words,
        control=control,
        index=index,
        number=index % ROTATION if benchmark.scoring == "circular" else index,
        category=row.get("category", ""),
        image_source=row.get("image_source", ""),
        question=row["question"],
        hint=row.get("hint", ""),
        options=tuple(options(row).items()),
        answer=row[KINDS[benchmark.kind].expected],
        prediction=row["prediction"],
        outcome=outcome,
        weights=weights,
        image="" if control == "text" else seen["image_sha256"],
        scene=seen.get("image_text", ""),
    )


def thumbnails(benchmark: Benchmark, wanted: Iterable[str]) -> dict[str, str]:
    """Return data URIs (WebP, at most 192 pixels a side) of the images whose ids are `wanted`.

    Languages share their images, so that mostly one file is read.

    Raises:
        UserError: an image that cannot be decoded or is in none of the benchmark's files.
    """
    missing = set(wanted)
    found = {}
    for language, file in benchmark.files.items():
        if not missing:
            break
        path = Path(benchmark.folder, file)
        table, _ = read_language(benchmark, language)
        for index, image in zip(table["index"], table["image"], strict=True):
            if (name := image_id(image)) in missing:
                missing.remove(name)
                found[name] = _small(decode_rgb(image, f"{path}: row {index}"))
    if missing:
        raise UserError(
            f"{benchmark.folder}: image {min(missing)}: expected in a file of {benchmark.name}, whose predictions "
            "name it; the files are not those of the predictions"
        )
    return found


def _small(image: Image.Image) -> str:
    image.thumbnail((PIXELS_PER_SIDE, PIXELS_PER_SIDE))
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
