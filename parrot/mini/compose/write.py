"""Composing data/mini: the whole folder, from the shipped material only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parrot.config.catalog import Language
from parrot.constants import PAPER_LANGUAGES
from parrot.io.files import new_folder, write_json
from parrot.mini.compose.benchmarks import write_benchmarks
from parrot.mini.compose.concepts import EMOJI_SETS
from parrot.mini.compose.conversations import write_captions, write_instructions, write_validation
from parrot.mini.compose.material import Material, load_material


def compose(resources: Path, output: Path, instruction: Mapping[Language, str]) -> None:
    """Write the mini scale's data from `resources` (workflow/resources/mini) as the folder `output`, replacing it.

    `instruction` is the closing sentence of every question, by language. Equal input gives equal bytes. Raises

    Raises:
        UserError: the resources are incomplete; `output` then stays as it was.
    """
    material = load_material(resources)
    with new_folder(output) as partial:
        counts = {
            "concepts": _concept_counts(material),
            "images_by_emoji_set": {name: _emoji_set_counts(material, name) for name in EMOJI_SETS},
            "captions": write_captions(material, partial / "align"),
            "instructions": write_instructions(material, partial / "sft", instruction),
            "validation": write_validation(material, partial / "validation", instruction),
            "benchmarks": write_benchmarks(material, partial / "benchmarks"),
        }
        write_json(partial / "filters.json", counts | {"image_files": _count(partial, "*.png")})


def _concept_counts(material: Material) -> dict[str, Any]:
    ids = material.concepts.ids
    clashing = [
        concept
        for concept in ids
        if any(other != concept and not material.tell_apart("naming", (concept, other)) for other in ids)
    ]
    return {
        "used": len(ids),
        "categories": {category: len(members) for category, members in material.categories.items()},
        "unseen_in_language": sorted(material.concepts.unseen_in_language()),
        "name_is_part_of_anothers": clashing,
        "languages": list(PAPER_LANGUAGES),
    }


def _emoji_set_counts(material: Material, name: str) -> dict[str, int]:
    emoji_set = material.emoji_sets[name]
    drawn = [concept for concept in material.concepts.ids if concept in emoji_set]
    return {
        "drawn": len(drawn),
        "missing": len(material.concepts.ids) - len(drawn),
        "with_a_main_colour": sum(emoji_set.colour(concept) is not None for concept in drawn),
    }


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.rglob(pattern))
