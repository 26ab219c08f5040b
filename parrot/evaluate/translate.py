"""Questions put into English before prediction: by a benchmark's own English rows, or by a translation model.

This is the baseline of the paper's Table 10 ("translate test"): a model that knows English alone, and a translator. The
model is of the NLLB family (arXiv:2207.04672).
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForSeq2SeqLM, NllbTokenizer

from parrot.config.benchmarks import Benchmark
from parrot.config.catalog import BackboneFolder, Language
from parrot.config.stages import PredictSettings
from parrot.config.staleness import code_digest, key
from parrot.constants import LANGUAGES
from parrot.data.benchmarks import read_language
from parrot.data.tsv import LETTERS, Rejection, reject
from parrot.errors import UserError
from parrot.evaluate.generate import use_accelerator
from parrot.io.digests import append_line, file_sha256, read_lines
from parrot.io.files import make_folder
from parrot.io.progress import Progress
from parrot.model.folder import check_folder
from parrot.model.tokenizer import read_tokenizer
from parrot.model.weights import pretrained

# The columns that are put into English; an image in words is what the control `text` shows.
TEXTS = ("question", "hint", "image_text", *LETTERS)

MAX_NEW_TOKENS = 512

Translate = Callable[[pd.DataFrame, Benchmark, Language, list[Rejection] | None], pd.DataFrame]
"""From the rows of a benchmark in a language to the same rows with English texts; the rest of them stays.

Rows that cannot be translated are left out and added to the list; with None for it, UserError at the first one.
"""


def translator(settings: PredictSettings, work: Path) -> Translate | None:
    """Return the run's translator; None where its questions are not translated."""
    if settings.translator == "none":
        return None
    if settings.translator == "parallel_rows":
        return parallel_rows
    return Translations(settings.translator, work).rows


def translator_key(model: BackboneFolder) -> str:
    """Digest of what a model's translations depend on: its files and the code."""
    files = [file for kind in ("safetensors", "json") for file in Path(model.path).glob(f"*.{kind}")]
    digests = {file.name: file_sha256(file) for file in files}
    return key([digests, code_digest("translations")])


def parallel_rows(
    table: pd.DataFrame, benchmark: Benchmark, language: Language, rejected: list[Rejection] | None = None
) -> pd.DataFrame:
    """Return the texts of the English rows with the same indices, as a perfect translator would word them.

    A row cannot be translated where there is no such English row, it is rejected, or has another right answer.

    Raises:
        UserError: there is no English file.
    """
    if language == "en":
        return table
    path = Path(benchmark.folder, benchmark.files[language])
    if "en" not in benchmark.files:
        raise UserError(f"{path}: translator parallel_rows: expected an English file in {benchmark.name}, found none")
    source = Path(benchmark.folder, benchmark.files["en"])
    english = read_language(benchmark, "en")[0].set_index("index")
    identity = ["index", "answer"] if "answer" in table else ["index"]
    known = set(map(tuple, english.reset_index()[identity].to_numpy()))
    lone = [row not in known for row in map(tuple, table[identity].to_numpy())]
    why = f"expected a row with that {' and '.join(identity)} in {source}"
    places = table.index[lone].to_list()
    reject([Rejection(place, table["index"][place], why) for place in places], path, rejected)
    table = table.drop(index=places)
    found = english.loc[table["index"]]
    columns = [column for column in TEXTS if column in table or column in found]
    return table.assign(**{column: found[column].to_numpy() if column in found else "" for column in columns})


class Translations:
    """What a model made of benchmarks' texts, line by line, kept in a folder below `work`.

    Each process that translates writes a file of its own, a batch a line, so that runs may translate side by side.
    """

    def __init__(self, model: BackboneFolder, work: Path):
        self.folder = work / "translations" / translator_key(model)
        self.known: dict[Language, dict[str, str]] = {language: {} for language in LANGUAGES}
        for path in sorted(self.folder.glob("*.jsonl")):
            for said in read_lines(path, mine=False):
                self.known[said["language"]] |= dict(zip(said["lines"], said["english"], strict=True))

    def rows(
        self, table: pd.DataFrame, benchmark: Benchmark, language: Language, rejected: list[Rejection] | None = None
    ) -> pd.DataFrame:
        """All rows. A line that the model made nothing of stays as it is, lest an option vanish."""
        if language == "en":
            return table
        known = self.known[language]

        def english(text: str) -> str:
            return "\n".join(known[line].strip() or line if line.strip() else line for line in text.split("\n"))

        return table.assign(**{name: table[name].map(english) for name in TEXTS if name in table})

    def missing(self, table: pd.DataFrame, language: Language) -> set[str]:
        """Return the lines of `table` that were not translated yet."""
        return set(lines(table)) - self.known[language].keys()


def lines(table: pd.DataFrame) -> Iterator[str]:
    """Every line of the texts that has more than blanks: translation models read one sentence or so."""
    cells = (cell for column in TEXTS if column in table for cell in table[column])
    return (line for cell in cells for line in cell.split("\n") if line.strip())


def translate(settings: PredictSettings, work: Path, batch: int) -> None:
    """Translate what the run's benchmarks say in other languages than English, and keep it in `work`.

    What was translated before, by whatever run, is not again.

    Raises:
        UserError: the folder holds no NLLB model.
    """
    assert isinstance(settings.translator, BackboneFolder)
    translations = Translations(settings.translator, work)
    missing = _missing(settings, translations)
    if not any(missing.values()):
        return
    model, tokenizer = load_translator(settings.translator.path)
    make_folder(translations.folder)
    cut = total = 0
    kept = translations.folder / f"{uuid.uuid4().hex}.jsonl"
    with Progress(sum(map(len, missing.values())), "text") as progress:
        for language, lines in _batches(missing, batch):
            english, unfinished = _translate(model, tokenizer, lines, language)
            append_line(kept, {"language": language, "lines": lines, "english": english})
            cut, total = cut + unfinished, total + len(lines)
            progress.add(len(lines))
    if cut:
        print(f"{cut} of {total} translations were cut off at {MAX_NEW_TOKENS} tokens", file=sys.stderr)


def _missing(settings: PredictSettings, translations: Translations) -> dict[Language, set[str]]:
    missing: dict[Language, set[str]] = {}
    for benchmark in settings.benchmarks:
        if not set(settings.controls) & set(benchmark.controls):
            continue
        for language in benchmark.files:
            if language != "en":
                table, _ = read_language(benchmark, language)
                missing.setdefault(language, set()).update(translations.missing(table, language))
    return missing


def _batches(missing: dict[Language, set[str]], batch: int) -> Iterator[tuple[Language, list[str]]]:
    """Lines of one language and about one length."""
    for language, lines in missing.items():
        ordered = sorted(lines, key=lambda line: (len(line), line), reverse=True)
        for start in range(0, len(ordered), batch):
            yield language, ordered[start : start + batch]


def load_translator(folder: str | Path) -> tuple[Any, Any]:
    """Model, in float32, and tokenizer.

    Raises:
        UserError: `folder` holds no model of the NLLB family.
    """
    check_folder(folder, "translation model")
    tokenizer = read_tokenizer(Path(folder))
    if not isinstance(tokenizer, NllbTokenizer):
        raise UserError(f"{folder}: tokenizer: expected NLLB's, with its language codes")
    return use_accelerator(pretrained(AutoModelForSeq2SeqLM, folder, torch.float32)), tokenizer


@torch.inference_mode()
def _translate(model: Any, tokenizer: Any, lines: list[str], language: Language) -> tuple[list[str], int]:
    """Return the lines in English, by beams if the release says so, and how many of them did not end."""
    tokenizer.src_lang = LANGUAGES[language].nllb
    inputs = tokenizer(lines, padding=True, return_tensors="pt").to(model.device)
    english = tokenizer.convert_tokens_to_ids(LANGUAGES["en"].nllb)
    tokens = model.generate(**inputs, forced_bos_token_id=english, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    ends = torch.tensor(model.generation_config.eos_token_id, device=model.device).flatten()
    # The first token starts every translation and may be the one that ends them.
    unfinished = ~torch.isin(tokens[:, 1:], ends).any(dim=1)
    return tokenizer.batch_decode(tokens, skip_special_tokens=True), int(unfinished.sum())
