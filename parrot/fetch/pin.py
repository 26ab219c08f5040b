"""A pin, a file of DVC's, says what a scale's data is; the data is held to it, with git and DVC's cache or without."""

from __future__ import annotations

import configparser
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import yaml

from parrot.errors import UserError
from parrot.io.digests import file_md5


def confirm(pin: Path, check: bool = False) -> None:
    """Take data that equals its pin into DVC's cache; the pin itself is never rewritten. With `check`, only compare.

    A fresh clone's rebuild is unknown to the cache, so that `dvc status` would call it changed: `dvc commit` without
    force takes it in, and refuses data whose digest is not the pin's. Where DVC cannot do that, as in sources without
    git, the data is compared here, and a line says what DVC said.

    Raises:
        UserError: there is no pin, it cannot be read, or the data is not what was pinned.
    """
    if not pin.is_file():
        raise UserError(f"{pin}: no such pin; `parrot fetch --write-pin` makes it")
    refused = "" if check else _take_in(pin)
    if refused is not None:
        _compare(pin)
    if refused:
        print(f"parrot: {pin}: the data is what was pinned; DVC's cache does not have it: {refused}", file=sys.stderr)


def pull(pin: Path) -> None:
    """Take what `pin` holds from DVC's remote, where one is configured; what that lacks is downloaded."""
    config = configparser.ConfigParser()
    config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    if not pin.is_file() or not any("remote" in section for section in config.sections()):
        return
    done = _dvc("pull", "--quiet", str(pin))
    if done.returncode:
        print(f"parrot: {pin}: not in DVC's remote: {_first_line(done.stderr)}", file=sys.stderr)


def write(pin: Path) -> None:
    """Write the pin of the folder beside it that has its name: data/paper.dvc holds data/paper.

    Raises:
        UserError: there is no such folder, or DVC refuses.
    """
    folder = pin.with_suffix("")
    if pin.suffix != ".dvc" or not folder.is_dir():
        raise UserError(f"{pin}: expected the name of a folder, followed by .dvc; there is no folder {folder}")
    done = _dvc("add", "--quiet", str(folder))
    if done.returncode:
        raise UserError(f"{pin}: cannot be written: {_first_line(done.stderr)}")


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "no reason given").removeprefix("ERROR: ")


def _take_in(pin: Path) -> str | None:
    """Take the data into DVC; return what DVC says where it refuses, else None."""
    for command in ("commit", "status"):
        done = _dvc(command, "--quiet", str(pin))
        if done.returncode:
            return (done.stderr.strip() or "its digest is another one").splitlines()[0]
    return None


def _compare(pin: Path) -> None:
    try:
        content = yaml.safe_load(pin.read_text(encoding="utf-8"))
        pinned = [(pin.parent / content.get("wdir", ".") / out["path"], out["md5"]) for out in content["outs"]]
    except (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        raise UserError(f"{pin}: expected a file of DVC's with outs, each with path and md5") from None
    for path, md5 in pinned:
        found = _md5(path)
        if found != md5:
            raise UserError(f"{pin}: the data is not what was pinned: {path}: md5: expected {md5}, found {found}")


def _md5(path: Path) -> str:
    """DVC's digest of a file, or of a folder: that of the JSON list of its files and theirs."""
    if not path.is_dir():
        return file_md5(path) if path.is_file() else "nothing"
    names = sorted(file.relative_to(path).parts for file in path.rglob("*") if file.is_file())
    listed = [{"md5": file_md5(path.joinpath(*parts)), "relpath": "/".join(parts)} for parts in names]
    return f"{hashlib.md5(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()}.dir"
