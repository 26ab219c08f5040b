"""Maintainers: what the mini scale is made of."""

from pathlib import Path

RESOURCES = Path("workflow/resources/mini")
COMPOSED = Path("data/mini")
