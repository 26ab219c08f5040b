"""predictions.html: every answer of one run to browse, on one self-contained page that nothing has to serve."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from parrot.config.catalog import SCORINGS
from parrot.config.settings import Conventions
from parrot.constants import LANGUAGES
from parrot.evaluate.predictions import read_rejected
from parrot.io.files import atomic_write
from parrot.report.browse_rows import BrowseRow, choose, read_browse_rows
from parrot.report.settings import BrowseStage
from parrot.report.template import FOLDER, environment
from parrot.report.thumbnails import thumbnails
from parrot.report.words import WORDS, prompt_languages

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
    """Write the page of the run whose folder of predictions is `predictions`, with at most `settings.rows` answers.

    Raises:
        UserError: a prediction file, a benchmark file or `graded`, the run's graded.csv, is missing or malformed, or
            they do not belong together.
    """
    answers = read_browse_rows(settings, predictions, graded)
    shown = choose(answers, settings.rows)
    images: dict[str, str] = {}
    for benchmark in settings.benchmarks:
        wanted = {answer.image for answer in shown if answer.benchmark == benchmark.name and answer.image}
        images |= thumbnails(benchmark, wanted - images.keys())
    known = KNOWN | {"benchmark": {benchmark.name: benchmark.called for benchmark in settings.benchmarks}}
    words = {field: _words(known.get(field, {}), field, shown) for field in FILTERS}
    written = {answer.text_language for answer in shown}
    rtl = [code for code in LANGUAGES if code in written and LANGUAGES[code].direction == "rtl"]
    template = environment().get_template("browse.html.j2")
    script = (FOLDER / "browse.js").read_text(encoding="utf-8")
    page = template.render(
        settings=settings,
        shown=len(shown),
        total=len(answers),
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


def _words(known: Mapping[str, str], field: str, answers: Sequence[BrowseRow]) -> dict[str, str]:
    """Return the values of a field that occur, each in words: known ones first, others in the predictions' order."""
    found = {getattr(answer, field): "" for answer in answers if getattr(answer, field)}
    ordered = [value for value in known if value in found] + [value for value in found if value not in known]
    return {value: known.get(value, value) for value in ordered}


def _json(value: Any) -> Markup:
    """JSON for a script element, which any "<" of a text could end."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=vars)
    return Markup(text.replace("<", "\\u003c"))
