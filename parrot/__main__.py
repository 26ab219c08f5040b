"""`python -m parrot` is the `parrot` command."""

from parrot.cli import main

main()
