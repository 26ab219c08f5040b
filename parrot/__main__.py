"""`python -m parrot` is the `parrot` command."""

from parrot.cli.app import main

main()
