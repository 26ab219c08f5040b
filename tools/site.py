"""Hook of mkdocs.yml: the site's files, by the paths that they have in the repository.

A link between two files then leads to the same place on the site as in the repository. Pages are what the navigation
names and what those link to; an API page is made for each package.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)\s#]+)|(?:src|href)=\"([^\"#]+)")
GROUND = ("parrot.errors", "parrot.constants")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace MkDocs' files under docs/ by those that the site holds."""
    for file in list(files):
        if file.src_uri and (ROOT / "docs" / file.src_uri).is_file():
            files.remove(file)
    pages = list(_named(config.nav))
    for name in sorted(_reached([page for page in pages if not page.startswith("api/")])):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for page in pages:
        if page.startswith("api/"):
            files.append(File.generated(config, page, content=_api(Path(page).stem)))
    return files


def _named(nav: object) -> Iterator[str]:
    """Yield the pages that a navigation names, at any depth."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list | dict):
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(entry)


def _reached(pages: list[str]) -> set[str]:
    """Return the pages and, at any number of links, the repository's files that they link to."""
    found: set[str] = set()
    while pages:
        page = pages.pop()
        if page in found or not (ROOT / page).is_file():
            continue  # MkDocs itself names a page or a link that leads nowhere
        found.add(page)
        if page.endswith(".md"):
            for match in LINK.finditer((ROOT / page).read_text(encoding="utf-8")):
                target = unquote(match[1] or match[2])
                pages.append(os.path.normpath(os.path.join(os.path.dirname(page), target)))
    return found


def _api(package: str) -> str:
    """Return the page of a package's modules."""
    modules = GROUND if package == "ground" else (f"parrot.{package}",)
    return f"# {' and '.join(modules)}\n\n" + "\n".join(f"::: {module}\n" for module in modules)
