"""The hand-made part of the selection (`selection.yaml`) and the order in which concepts are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from pydantic import ValidationError

from parrot.config.base import Several, StrictModel, explained
from parrot.config.catalog import Language
from parrot.config.strict_yaml import read_yaml
from parrot.constants import PAPER_LANGUAGES
from parrot.errors import UserError

FILE = Path(__file__).with_name("selection.yaml")


class Category(StrictModel):
    """A category's names and the concepts that may stand for it, everyday ones first."""

    names: dict[Language, str]
    concepts: Several[str]


class Selection(StrictModel):
    """What was chosen and ruled out by hand; see the comments of `selection.yaml`."""

    categories: dict[str, Category]
    dropped: dict[str, str]
    slugs: dict[str, dict[str, str]]
    wrong: dict[str, dict[str, str]]
    confirmed: dict[str, Several[str]]

    def category_of(self) -> dict[str, str]:
        """Category by concept, in the order of the file."""
        return {concept: name for name, category in self.categories.items() for concept in category.concepts}


def read_selection(available: Sequence[str], path: Path = FILE) -> Selection:
    """Read the hand-made choices.

    Raises:
        UserError: they name what is not `available`, twice or in part.
    """
    try:
        selection = Selection.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {explained(error)}") from None
    listed = [concept for category in selection.categories.values() for concept in category.concepts]
    for concept in [*listed, *selection.dropped]:
        if concept not in available:
            raise UserError(f"{path}: {concept}: expected a concept that passes the filters")
        if (concept in selection.dropped) + listed.count(concept) > 1:
            raise UserError(f"{path}: {concept}: expected once, in one category or in `dropped`")
    for name, category in selection.categories.items():
        if missing := [language for language in PAPER_LANGUAGES if not category.names.get(language)]:
            raise UserError(f"{path}: categories.{name}.names: expected a name in {', '.join(missing)}")
    return selection


def interleave(by_category: Mapping[str, Sequence[str]]) -> list[str]:
    """One concept of each category in turn, so that any first N are balanced over the categories."""
    return [concept for turn in zip_longest(*by_category.values()) for concept in turn if concept is not None]
