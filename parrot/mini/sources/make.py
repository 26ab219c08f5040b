"""From packages to `workflow/resources/mini`: concepts, their images, and the counts of every filter on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from parrot.errors import UserError
from parrot.mini.sources import check
from parrot.mini.sources.concepts import Concept, read_concepts
from parrot.mini.sources.emoji_sets import EMOJI_SETS, Drawings, drawing_of, load
from parrot.mini.sources.render import SIDE, render
from parrot.mini.sources.selection import FILE, Selection, interleave, read_selection
from parrot.mini.sources.ship import Entry, ship

CONCEPTS = 160
BY_CODEPOINT = ("noto", "fluent-flat")
BY_NAME = ("noto-v1", "fxemoji", "emojione")


def make(work: Path, output: Path) -> dict[str, int]:
    """Fetch into `work`, select, render, check and write to `output`; return how many concepts each filter left.

    Raises:
        UserError: npm fails, a package's bytes differ, or a doubtful image was not looked at.
    """
    drawings = {emoji_set.name: load(emoji_set, work) for emoji_set in EMOJI_SETS}
    concepts, counts = read_concepts(work)
    selection = read_selection([concept.slug for concept in concepts])
    found = {concept.slug: _find(concept, drawings, selection) for concept in concepts}
    concepts = [concept for concept in concepts if _drawn_where_required(found[concept.slug])]
    counts["drawn_by_required_emoji_sets"] = len(concepts)

    chosen = _choose(concepts, selection, counts)
    images = {slug: _render(found[slug], drawings) for slug in chosen}
    doubts = _doubts(images, selection)
    lookalikes = check.alike(images, [emoji_set.name for emoji_set in EMOJI_SETS if emoji_set.split != "test"])
    kept = [slug for slug in chosen if slug not in {later for _, _, later in lookalikes}]
    counts["not_drawn_alike"] = len(kept)

    order = _order(kept, images, selection)[:CONCEPTS]
    counts["shipped"] = len(order)
    category_of = selection.category_of()
    filters = {
        "concepts_left_by_filter": counts,
        "drawings_found": dict(Counter(emoji_set for names in found.values() for emoji_set in names)),
        "images_shipped": dict(Counter(emoji_set for slug in order for emoji_set in images[slug])),
        "doubtful_images_looked_at": {emoji_set: len(slugs) for emoji_set, slugs in doubts.items()},
        "wrong_images": selection.wrong,
        "drawn_alike": [list(pair) for pair in lookalikes],
        "dropped_by_hand": selection.dropped,
    }
    categories = {name: dict(category.names) for name, category in selection.categories.items()}
    ship([Entry(chosen[slug], category_of[slug], images[slug]) for slug in order], categories, filters, output)
    return counts


def _find(concept: Concept, drawings: Mapping[str, Drawings], selection: Selection) -> dict[str, str]:
    """Drawing name by emoji set, without the drawings that are known to be wrong."""
    names = {
        emoji_set.name: drawing_of(
            drawings, emoji_set, concept, selection.slugs.get(emoji_set.name, {}).get(concept.slug)
        )
        for emoji_set in EMOJI_SETS
        if concept.slug not in selection.wrong.get(emoji_set.name, {})
    }
    return {emoji_set: name for emoji_set, name in names.items() if name}


def _drawn_where_required(found: Mapping[str, str]) -> bool:
    return all(emoji_set.name in found for emoji_set in EMOJI_SETS if emoji_set.required)


def _choose(concepts: list[Concept], selection: Selection, counts: dict[str, int]) -> dict[str, Concept]:
    """Concepts of the hand-made categories, in the order of the file."""
    by_slug = {concept.slug: concept for concept in concepts}
    listed = selection.category_of()
    for slug in [*listed, *selection.dropped]:
        if slug not in by_slug:
            raise UserError(f"{FILE}: {slug}: expected a concept that every required emoji set draws")
    counts["considered_for_a_category"] = len(listed) + len(selection.dropped)
    counts["not_dropped_by_hand"] = len(listed)
    return {slug: by_slug[slug] for slug in listed}


def _render(found: Mapping[str, str], drawings: Mapping[str, Drawings]) -> dict[str, Image.Image]:
    return {emoji_set: render(drawings[emoji_set].svg(name, SIDE)) for emoji_set, name in found.items()}


def _doubts(images: check.Images, selection: Selection) -> dict[str, list[str]]:
    """Doubtful images of the emoji sets matched by name; each must have been confirmed by hand."""
    doubts = {emoji_set: check.doubtful(images, emoji_set, BY_CODEPOINT) for emoji_set in BY_NAME}
    for emoji_set, slugs in doubts.items():
        if unseen := set(slugs) - set(selection.confirmed.get(emoji_set, ())):
            raise UserError(f"{FILE}: {emoji_set}: {', '.join(sorted(unseen))}: expected in `wrong` or `confirmed`")
    return doubts


def _order(slugs: list[str], images: check.Images, selection: Selection) -> list[str]:
    """Order by turns over the categories; within one, by how many emoji sets draw a concept, then as made by hand."""
    ranked = sorted(slugs, key=lambda slug: -len(images[slug]))
    category_of = selection.category_of()
    return interleave({name: [slug for slug in ranked if category_of[slug] == name] for name in selection.categories})
