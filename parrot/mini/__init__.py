"""Maintainers: what the mini scale's data and backbones are made of."""

from pathlib import Path

RESOURCES = Path("workflow/resources/mini")
COMPOSED = Path("data/mini")
