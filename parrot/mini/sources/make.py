"""From packages to `workflow/resources/mini`: concepts, their pictures, and the counts of every filter on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from parrot.errors import ConfigError
from parrot.mini.sources import check
from parrot.mini.sources.concepts import Concept, read_concepts
from parrot.mini.sources.houses import HOUSES, Drawings, drawing_of, load
from parrot.mini.sources.render import SIDE, render
from parrot.mini.sources.selection import FILE, Selection, interleave, read_selection
from parrot.mini.sources.ship import Entry, ship

CONCEPTS = 160
BY_CODEPOINT = ("noto", "fluent-flat")
BY_NAME = ("noto-v1", "fxemoji", "emojione")


def make(work: Path, output: Path) -> dict[str, int]:
    """Fetch into `work`, select, render, check and write to `output`; return how many concepts each filter left.

    Raises `ConfigError` where npm fails, a package's bytes differ, or a doubtful picture was not looked at.
    """
    drawings = {house.name: load(house, work) for house in HOUSES}
    concepts, counts = read_concepts(work)
    selection = read_selection([concept.slug for concept in concepts])
    found = {concept.slug: _find(concept, drawings, selection) for concept in concepts}
    concepts = [concept for concept in concepts if _drawn_where_required(found[concept.slug])]
    counts["drawn_by_required_houses"] = len(concepts)

    chosen = _choose(concepts, selection, counts)
    pictures = {slug: _render(found[slug], drawings) for slug in chosen}
    doubts = _doubts(pictures, selection)
    lookalikes = check.alike(pictures, [house.name for house in HOUSES if house.split != "test"])
    kept = [slug for slug in chosen if slug not in {later for _, _, later in lookalikes}]
    counts["not_drawn_alike"] = len(kept)

    order = _order(kept, pictures, selection)[:CONCEPTS]
    counts["shipped"] = len(order)
    category_of = selection.category_of()
    filters = {
        "concepts_left_by_filter": counts,
        "drawings_found": dict(Counter(house for names in found.values() for house in names)),
        "pictures_shipped": dict(Counter(house for slug in order for house in pictures[slug])),
        "doubtful_pictures_looked_at": {house: len(slugs) for house, slugs in doubts.items()},
        "wrong_pictures": selection.wrong,
        "drawn_alike": [list(pair) for pair in lookalikes],
        "dropped_by_hand": selection.dropped,
    }
    categories = {name: dict(category.names) for name, category in selection.categories.items()}
    ship([Entry(chosen[slug], category_of[slug], pictures[slug]) for slug in order], categories, filters, output)
    return counts


def _find(concept: Concept, drawings: Mapping[str, Drawings], selection: Selection) -> dict[str, str]:
    """Drawing name by house, without the drawings that are known to be wrong."""
    names = {
        house.name: drawing_of(drawings, house, concept, selection.slugs.get(house.name, {}).get(concept.slug))
        for house in HOUSES
        if concept.slug not in selection.wrong.get(house.name, {})
    }
    return {house: name for house, name in names.items() if name}


def _drawn_where_required(found: Mapping[str, str]) -> bool:
    return all(house.name in found for house in HOUSES if house.required)


def _choose(concepts: list[Concept], selection: Selection, counts: dict[str, int]) -> dict[str, Concept]:
    """Concepts of the hand-made categories, in the order of the file."""
    by_slug = {concept.slug: concept for concept in concepts}
    listed = selection.category_of()
    for slug in [*listed, *selection.dropped]:
        if slug not in by_slug:
            raise ConfigError(f"{FILE}: {slug}: expected a concept that every required house draws")
    counts["considered_for_a_category"] = len(listed) + len(selection.dropped)
    counts["not_dropped_by_hand"] = len(listed)
    return {slug: by_slug[slug] for slug in listed}


def _render(found: Mapping[str, str], drawings: Mapping[str, Drawings]) -> dict[str, Image.Image]:
    return {house: render(drawings[house].svg(name, SIDE)) for house, name in found.items()}


def _doubts(pictures: check.Pictures, selection: Selection) -> dict[str, list[str]]:
    """Doubtful pictures of the houses matched by name; each must have been confirmed by hand."""
    doubts = {house: check.doubtful(pictures, house, BY_CODEPOINT) for house in BY_NAME}
    for house, slugs in doubts.items():
        if unseen := set(slugs) - set(selection.confirmed.get(house, ())):
            raise ConfigError(f"{FILE}: {house}: {', '.join(sorted(unseen))}: expected in `wrong` or `confirmed`")
    return doubts


def _order(slugs: list[str], pictures: check.Pictures, selection: Selection) -> list[str]:
    """Turn by turn over the categories; within one, concepts that more houses draw first, then the hand-made order."""
    ranked = sorted(slugs, key=lambda slug: -len(pictures[slug]))
    category_of = selection.category_of()
    return interleave({name: [slug for slug in ranked if category_of[slug] == name] for name in selection.categories})
