"""The `parrot` command, its subcommands and their options."""

from parrot.cli.app import main

__all__ = ["main"]
