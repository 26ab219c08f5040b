"""The prompt of a benchmark row, as VLMEvalKit's Parrot wrapper words it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeVar

from parrot.config.base import StrictModel
from parrot.config.benchmarks import KINDS, Benchmark
from parrot.config.catalog import Language
from parrot.config.settings import Conventions
from parrot.config.stages import PredictSettings
from parrot.data.tsv import options
from parrot.errors import UserError

# The wrapper's sentences; they hold for every benchmark that asks for the letter and words no instruction of its own.
LETTER_INSTRUCTION: dict[Language, str] = {
    "en": "Answer with the option's letter from the given choices directly.",
    "zh": "请直接用给定选项中的选项字母回答。",
    "pt": "Responda diretamente com a letra da opção das escolhas dadas.",
    "ar": "أجب مباشرةً بحرف الخيار من الاختيارات المعطاة.",
    "tr": "Verilen seçeneklerden doğrudan seçeneğin harfi ile cevap verin.",
    "ru": "Ответьте буквой варианта из предложенных вариантов напрямую.",
}
OPEN_INSTRUCTION: dict[Language, str] = {
    "en": "Answer the question using a single word or phrase.",
    "zh": "请用单个词或短语回答问题。",
}
CHINESE = re.compile("[\u4e00-\u9fff]")

PromptLanguage = Literal["dataset", "group"]
Settings = TypeVar("Settings", bound=StrictModel)


def settings_for(benchmark: Benchmark, settings: Settings) -> Settings:
    """Return a run's settings with the benchmark's own prompt_language, where its entry has one."""
    own = benchmark.prompt_language
    return settings if own is None else settings.model_copy(update={"prompt_language": own})


def instructions(benchmark: Benchmark, settings: Conventions | PredictSettings) -> Mapping[Language, str]:
    """Return the closing sentences of a benchmark's prompts, by language.

    Raises:
        UserError: a needed one is missing.
    """
    sentences = benchmark.instruction or LETTER_INSTRUCTION
    in_english = settings_for(benchmark, settings).prompt_language == "group" or settings.translator != "none"
    needed: tuple[Language, ...] = ("en",) if in_english else tuple(benchmark.files)
    for language in needed:
        if language not in sentences:
            raise UserError(f"config/benchmarks.yaml: {benchmark.name}: instruction: no sentence for {language}")
    return sentences


def build_prompt(
    row: Mapping[str, str],
    sentences: Mapping[Language, str],
    language: Language,
    prompt_language: PromptLanguage = "dataset",
    template: str = KINDS["multiple_choice"].template,
) -> str:
    r"""``[hint\n]question\nA. ...\n<instruction>`` of one row, or another `template`.

    The instruction is in the row's language (`dataset`) or, as VLMEvalKit does when it is run on a group's name such as
    MMMB, in English (`group`). Either way any Chinese character in the row selects the Chinese one. A row without
    options is an open question, whose instruction exists in English and Chinese only.
    """
    offered = options(row)
    worded_in: Language = "en" if prompt_language == "group" or not offered else language
    if any(CHINESE.search(text) for text in (row.get("hint", ""), row["question"], *offered.values())):
        worded_in = "zh"
    instruction = (sentences.get(worded_in) or sentences[language]) if offered else OPEN_INSTRUCTION[worded_in]
    return filled(template, row, row["question"], instruction)


def filled(template: str, row: Mapping[str, str], question: str, instruction: str) -> str:
    """Put a row's parts into `template`, without the lines that a missing hint or missing options leave empty."""
    parts = {
        "hint": row.get("hint", ""),
        "question": question,
        "options": "\n".join(f"{letter}. {text}" for letter, text in options(row).items()),
        "instruction": instruction,
    }
    optional = [f"{{{name}}}" for name in ("hint", "options") if not parts[name]]
    lines = [line for line in template.split("\n") if line not in optional]
    return "\n".join(lines).format(**parts)
