"""Names and sentences of tables as what they are, wherever tables are read: no name is markup, a link or a formula."""

from __future__ import annotations

import re

MARKDOWN_SPECIAL = re.compile(r"[\\`*~|#\[\]]")
# What GitHub makes a link of without any brackets: addresses, and names of hosts and mail boxes.
MARKDOWN_LINK = re.compile(r"(?<=[a-z])://|\bwww\.|@", re.IGNORECASE)
TEX_SPECIAL = (
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {c: f"\\{c}" for c in "&%$#_{}"}
)


def markdown(text: str) -> str:
    """`text` on one line of GitHub-flavoured Markdown, in a table's cell or outside."""
    entities = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = MARKDOWN_SPECIAL.sub(lambda found: f"\\{found[0]}", entities)
    return MARKDOWN_LINK.sub(lambda found: "".join(_entity(c) for c in found[0]), escaped)


def tex(text: str) -> str:
    """`text` on one line of LaTeX, special characters escaped."""
    return "".join(TEX_SPECIAL.get(character, character) for character in one_line(text))


def _entity(character: str) -> str:
    return character if character.isalpha() else f"&#{ord(character)};"


def one_line(text: str) -> str:
    """Line ends of any kind and other characters that print nothing are blanks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
