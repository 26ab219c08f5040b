"""`docs/layers.svg`: the layers of the import contract, drawn; `make schemas` writes it."""

from __future__ import annotations

import ast
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH, ROW, GAP, TOP, LEFT = 900, 44, 6, 44, 60
CHARACTERS = 110  # of a line of text
GROUPS = {
    "#e8eaed": ("errors", "constants", "io", "config"),
    "#d7e7fb": ("data", "model"),
    "#d5efdc": ("train", "evaluate", "mini", "fetch"),
    "#fdecc8": ("report", "tracking"),
}
COLOURS = {name: colour for colour, names in GROUPS.items() for name in names}
OUTSIDE = "#e9dff7"


def layers() -> list[str]:
    """Return the package's layers, the uppermost first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (found,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [layer for layer in found if layer != "__main__"]


def description(layer: str) -> str:
    """Return the first sentence of a package's or module's docstring."""
    folder = ROOT / "parrot" / layer
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition(".\n")[0].removesuffix(".").replace("`", "").split())


def drawing() -> str:
    """Return the SVG's text."""
    names = layers()
    height = TOP + len(names) * (ROW + GAP) + 12
    bottom = TOP + len(names) * (ROW + GAP) - GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" fill="#202124">',
        "<title>The layers of the package parrot: a module imports from its own layer and from those below</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<defs><marker id="head" viewBox="0 0 10 10" refX="5" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L10 5 L0 10 z" fill="#5f6368"/></marker></defs>',
        f'<text x="{LEFT}" y="28" font-size="14" fill="#5f6368">started by the rules of workflow/ and by hand: '
        "parrot COMMAND</text>",
        f'<line x1="30" y1="{TOP}" x2="30" y2="{bottom}" stroke="#5f6368" stroke-width="2" marker-end="url(#head)"/>',
        f'<text x="18" y="{(TOP + bottom) // 2}" font-size="13" fill="#5f6368" text-anchor="middle" '
        f'transform="rotate(-90 18 {(TOP + bottom) // 2})">imports go down</text>',
    ]
    for number, name in enumerate(names):
        y = TOP + number * (ROW + GAP)
        lines.append(
            f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - 12}" height="{ROW}" rx="6" '
            f'fill="{COLOURS.get(name, OUTSIDE)}"/>'
        )
        lines.append(
            f'<text x="{LEFT + 14}" y="{y + ROW // 2 + 5}" font-size="15" font-weight="bold" '
            f'font-family="Menlo, Consolas, monospace">{name}</text>'
        )
        words = textwrap.wrap(description(name), CHARACTERS)
        for index, line in enumerate(words):
            middle = y + ROW // 2 + 5 + 16 * index - 8 * (len(words) - 1)
            lines.append(f'<text x="{LEFT + 140}" y="{middle}" font-size="13">{escape(line, quote=False)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    (ROOT / "docs/layers.svg").write_text(drawing(), encoding="utf-8")
