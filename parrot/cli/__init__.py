"""The `parrot` command."""

from parrot.cli.app import main

__all__ = ["main"]
