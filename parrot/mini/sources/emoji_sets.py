"""Emoji sets: one npm package of SVG drawings each, and how a concept's drawing is found in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from parrot.mini.sources.concepts import Concept
from parrot.mini.sources.packages import Package, fetch, read_json

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class EmojiSet:
    """One set of drawings: the package that holds it, its side of the split, and whether every concept must be in it.

    `like` names the emoji set of the same artists whose package maps code points to the same drawing names.
    """

    name: str
    package: Package
    split: Split
    required: bool = True
    like: str = ""


def _iconify(name: str, version: str, sha256: str) -> Package:
    return Package(f"@iconify-json/{name}", version, sha256)


# A concept may lack the two oldest sets, which drew few or other things where Unicode grew after 2014.
EMOJI_SETS = (
    EmojiSet(
        "noto",
        _iconify("noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
        "train",
    ),
    EmojiSet(
        "noto-v1",
        _iconify("noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
        "train",
        required=False,
        like="noto",
    ),
    EmojiSet(
        "fluent",
        _iconify("fluent-emoji", "1.2.7", "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"),
        "train",
        like="fluent-flat",
    ),
    EmojiSet(
        "fluent-flat",
        _iconify("fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
        "train",
    ),
    EmojiSet(
        "fxemoji",
        _iconify("fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
        "train",
        required=False,
    ),
    EmojiSet(
        "emojione",
        _iconify("emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
        "validation",
    ),
    EmojiSet(
        "twemoji",
        _iconify("twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
        "test",
    ),
    EmojiSet(
        "openmoji",
        _iconify("openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"),
        "test",
    ),
)


@dataclass(frozen=True)
class Drawings:
    """The drawings of one emoji set: SVG bodies by name, and names by code point where the package maps them."""

    emoji_set: EmojiSet
    icons: Mapping[str, Mapping[str, Any]]
    aliases: Mapping[str, Mapping[str, Any]]
    size: tuple[float, float]
    by_codepoint: Mapping[str, str]

    @property
    def mapped(self) -> bool:
        """True if the package itself maps code points to drawings."""
        return bool(self.by_codepoint)

    def find(self, names: list[str]) -> str | None:
        """First of `names` that is drawn, without mirrored or rotated variants of another drawing."""
        return next((name for name in names if self._resolve(name) is not None), None)

    def svg(self, name: str, side: int) -> str:
        """Return the drawing as an SVG document of side x side pixels, its aspect kept, centred."""
        icon = self._resolve(name)
        assert icon is not None, f"{self.emoji_set.name} has no drawing {name}"
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        left, top = icon.get("left", 0), icon.get("top", 0)
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{side}" height="{side}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )

    def _resolve(self, name: str) -> Mapping[str, Any] | None:
        if (alias := self.aliases.get(name)) is not None:
            return self._resolve(alias["parent"]) if alias.keys() == {"parent"} else None
        return self.icons.get(name)


def load(emoji_set: EmojiSet, folder: Path) -> Drawings:
    """Fetch an emoji set's package into `folder` and read its drawings."""
    tarball = fetch(emoji_set.package, folder)
    icons = read_json(tarball, "icons.json")
    size = (icons["width"], icons["height"])
    return Drawings(emoji_set, icons["icons"], icons.get("aliases", {}), size, read_json(tarball, "chars.json"))


def drawing_of(
    drawings: Mapping[str, Drawings], emoji_set: EmojiSet, concept: Concept, by_hand: str | None
) -> str | None:
    """Name of the drawing of `concept` in `emoji_set`, or None; `drawings` holds every emoji set's.

    In order: the package's own code point; where it maps none, a name given by hand, the code point in the emoji set
    of the same artists, the CLDR name, the Unicode and short names (each also without
    hyphens, as old packages write them).
    """
    own = drawings[emoji_set.name]
    if own.mapped:
        return own.find(_by_codepoint(own, concept.codepoint))
    candidates = [by_hand] if by_hand else []
    if emoji_set.like:
        candidates += [*_by_codepoint(drawings[emoji_set.like], concept.codepoint), concept.slug]
    else:
        candidates += [form for name in (concept.slug, *concept.other_names) for form in (name, _letters(name))]
    return own.find(candidates)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


def _by_codepoint(drawings: Drawings, codepoint: str) -> list[str]:
    found = (drawings.by_codepoint.get(key) for key in (codepoint, f"{codepoint}-fe0f"))
    return [name for name in found if name]
