"""Concepts: emoji code points of the concrete groups with one unambiguous CLDR name in each of the six languages."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from parrot.config.catalog import Language
from parrot.constants import PAPER_LANGUAGES
from parrot.mini.sources.packages import GROUPS, NAMES, fetch, read_json

CONCRETE = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
LONGEST_NAME: dict[Language, int] = {"en": 16, "zh": 8, "pt": 20, "ar": 20, "tr": 20, "ru": 24}
CLOCK_FACES = {f"{point:x}" for point in range(0x1F550, 0x1F568)}
VARIATION_SELECTOR = "\ufe0f"


@dataclass(frozen=True)
class Concept:
    """A thing that can be drawn and named; `names` by language, `other_names` are its Unicode and short names."""

    slug: str
    codepoint: str
    group: str
    subgroup: str
    names: dict[Language, str]
    other_names: tuple[str, ...]


def read_concepts(folder: Path) -> tuple[list[Concept], dict[str, int]]:
    """All usable concepts in Unicode order, and how many entries each filter left."""
    entries = sorted(read_json(fetch(GROUPS, folder), "emoji.json"), key=lambda entry: entry["sort_order"])
    annotations = _annotations(folder)
    counts = {"emoji": len(entries)}
    entries = [entry for entry in entries if entry["category"] in CONCRETE]
    counts["concrete_group"] = len(entries)
    entries = [entry for entry in entries if "-" not in _codepoint(entry)]
    counts["single_code_point"] = len(entries)
    entries = [entry for entry in entries if _codepoint(entry) not in CLOCK_FACES]
    counts["no_clock_face"] = len(entries)
    concepts = [_concept(entry, annotations) for entry in entries]
    concepts = [concept for concept in concepts if all(concept.names.values())]
    counts["named_in_six_languages"] = len(concepts)
    concepts = _unambiguous(concepts)
    counts["unambiguous_names"] = len(concepts)
    concepts = [concept for concept in concepts if _short(concept)]
    counts["short_names"] = len(concepts)
    return concepts, counts


def _annotations(folder: Path) -> dict[Language, dict[str, str]]:
    """Text-to-speech names by language and character; CLDR keys carry no variation selector."""
    tarball = fetch(NAMES, folder)
    names: dict[Language, dict[str, str]] = {}
    for language in PAPER_LANGUAGES:
        entries = read_json(tarball, f"annotations/{language}/annotations.json")["annotations"]["annotations"]
        names[language] = {key: entry["tts"][0] for key, entry in entries.items() if "tts" in entry}
    return names


def _codepoint(entry: dict) -> str:
    return entry["unified"].removesuffix("-FE0F").lower()


def _concept(entry: dict, annotations: dict[Language, dict[str, str]]) -> Concept:
    character = chr(int(_codepoint(entry), 16))
    names = {language: _clean(annotations[language].get(character, "")) for language in PAPER_LANGUAGES}
    slug = re.sub(r"[^a-z0-9]+", "-", names["en"].lower()).strip("-")
    other = (re.sub(r"[^a-z0-9]+", "-", entry["name"].lower()), *entry["short_names"])
    return Concept(slug, _codepoint(entry), entry["category"], entry["subcategory"], names, other)


def _clean(name: str) -> str:
    return " ".join(name.replace(VARIATION_SELECTOR, "").split())


def _unambiguous(concepts: list[Concept]) -> list[Concept]:
    used = {lang: Counter(concept.names[lang].casefold() for concept in concepts) for lang in PAPER_LANGUAGES}
    return [
        concept
        for concept in concepts
        if all(used[lang][concept.names[lang].casefold()] == 1 for lang in PAPER_LANGUAGES)
    ]


def _short(concept: Concept) -> bool:
    return all(len(concept.names[language]) <= LONGEST_NAME[language] for language in PAPER_LANGUAGES)
