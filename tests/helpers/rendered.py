"""A page as a reader meets it."""

from __future__ import annotations

from tools.browser import chromium


def rendered(url: str) -> str:
    """The document's HTML after its scripts have run; UserError where there is no Chromium."""
    return chromium(url, "--dump-dom")
