"""``python -m parrot.mini.backbones [qwen|clip|clip_zh ...]``: make the mini scale's backbones anew.

Each takes about ten CPU minutes on one thread and needs none of the others. On the same machine the same inputs give
the same weights.
"""

from __future__ import annotations

import argparse
import multiprocessing

from parrot.errors import in_one_line
from parrot.mini.backbones.make import CAPTIONS, make


def main() -> None:
    """Make the named backbones, all by default, each in a process of its own."""
    names = ("qwen", *CAPTIONS)
    parser = argparse.ArgumentParser(prog="python -m parrot.mini.backbones", description="Make the mini backbones.")
    parser.add_argument("names", nargs="*", choices=names, default=names, metavar="NAME", help=", ".join(names))
    for name in parser.parse_args().names:
        process = multiprocessing.get_context("spawn").Process(target=_make, args=(name,))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


def _make(name: str) -> None:
    with in_one_line():
        make(name)


if __name__ == "__main__":
    main()
