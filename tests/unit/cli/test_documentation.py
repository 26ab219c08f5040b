"""Pages name files that exist, and the drawing of the layers is that of the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.layers import drawing

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "tests/README.md", ROOT / "config/README.md"]
FILE = re.compile(
    r"`((?:config|docs|examples|parrot|tests|tools|workflow)/[\w./-]+\.(?:csv|ipynb|json|md|py|smk|yaml))`"
)


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_the_layers_are_drawn_as_the_contract_has_them() -> None:
    assert (ROOT / "docs/layers.svg").read_text(encoding="utf-8") == drawing(), "run `make schemas`"
