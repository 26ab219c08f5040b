"""Benchmarks' texts into English by a translation model of the NLLB family (arXiv:2207.04672)."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, NllbTokenizer

from parrot.config.catalog import BackboneFolder, Language
from parrot.config.stages import PredictSettings
from parrot.constants import LANGUAGES
from parrot.data.benchmarks import read_language
from parrot.errors import ConfigError
from parrot.evaluate.english import Translations
from parrot.evaluate.generate import use_accelerator
from parrot.evaluate.progress import Progress
from parrot.io.digests import append_line
from parrot.io.files import make_folder
from parrot.model.folder import check_folder
from parrot.model.tokenizer import read_tokenizer
from parrot.model.weights import pretrained

MAX_NEW_TOKENS = 512


def translate(settings: PredictSettings, work: Path, batch: int) -> None:
    """Translate what the run's benchmarks say in other languages than English, and keep it in `work`.

    What was translated before, by whatever run, is not again. ConfigError for a folder of no NLLB model.
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
    """Model, in float32, and tokenizer; ConfigError unless `folder` holds a model of the NLLB family."""
    check_folder(folder, "translation model")
    tokenizer = read_tokenizer(Path(folder))
    if not isinstance(tokenizer, NllbTokenizer):
        raise ConfigError(f"{folder}: tokenizer: expected NLLB's, with its language codes")
    return use_accelerator(pretrained(AutoModelForSeq2SeqLM, folder, torch.float32)), tokenizer


@torch.inference_mode()
def _translate(model: Any, tokenizer: Any, lines: list[str], language: Language) -> tuple[list[str], int]:
    """The lines in English, by beams if the release says so, and how many of them did not end."""
    tokenizer.src_lang = LANGUAGES[language].nllb
    inputs = tokenizer(lines, padding=True, return_tensors="pt").to(model.device)
    english = tokenizer.convert_tokens_to_ids(LANGUAGES["en"].nllb)
    tokens = model.generate(**inputs, forced_bos_token_id=english, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    ends = torch.tensor(model.generation_config.eos_token_id, device=model.device).flatten()
    # The first token starts every translation and may be the one that ends them.
    unfinished = ~torch.isin(tokens[:, 1:], ends).any(dim=1)
    return tokenizer.batch_decode(tokens, skip_special_tokens=True), int(unfinished.sum())
