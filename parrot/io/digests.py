"""What is kept from one start to the next, and can tell whether it is as it was written: it holds its own digest.

Disks fill up, nodes lose power and files are copied half. What is kept is never an input: whatever is not as it was
written is named in one line on stderr and left out, and whoever needs it makes it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from parrot.errors import naming
from parrot.io.files import atomic_write, complete_lines, patiently


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_md5(path: str | Path) -> str:
    """MD5 of a file, in hexadecimal: what benchmarks are published with."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest_by(kind: str, path: Path) -> str:
    """Digest of a file by `kind`: sha256, md5 or git_sha1, the name of a Git blob of its bytes."""
    if kind != "git_sha1":
        return {"sha256": file_sha256, "md5": file_md5}[kind](path)
    blob = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: blob).hexdigest()


def sealed(value: Any) -> str:
    """One line of JSON: `value`, a JSON value, and its digest."""
    text = json.dumps(value)
    return f'{{"sha256": "{hashlib.sha256(text.encode()).hexdigest()}", "value": {text}}}\n'


def write_record(path: Path, value: Any) -> None:
    """Write a file that holds `value` alone, for `read_record`."""
    atomic_write(path, sealed(value))


def read_record(path: Path, instead: str | None = None) -> Any:
    """Return the value that `write_record` wrote; None where there is no file, or a damaged one.

    A damaged one is named in a line where there is something to happen `instead`.
    """
    if not path.exists():
        return None
    found = _values([path.read_bytes()] if path.is_file() else [])
    if not found and instead is not None:
        tell(path, instead)
    return found[0] if found else None


def append_line(path: Path, value: Any) -> None:
    """Append `value` to a file of lines, on disk when this returns."""
    with naming(path), patiently(open, path, "a", encoding="utf-8") as file:
        file.write(sealed(value))
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, mine: bool) -> list[Any]:
    """Return the values of a file that `append_line` grows; drop damaged ones, also from the file.

    A last line without its end is left out: another process is writing it, or was killed at it. The file loses it too
    where it is `mine`, since what is appended next would go on with it.
    """
    content = path.read_bytes() if path.is_file() else b""
    lines = complete_lines(content)
    values = _values(lines)
    damaged = len(lines) - len(values)
    if damaged:
        tell(path, f"{damaged} of {len(lines)} lines are left out, and what they held is computed again")
    if damaged or (mine and sum(map(len, lines)) < len(content)):
        atomic_write(path, "".join(map(sealed, values)))
    return values


def seal(partial: Path, path: Path) -> None:
    """Keep the digest of `partial`, a file that is about to become `path`, beside `path`."""
    write_record(_seal(path), file_sha256(partial))


def is_complete(path: Path) -> bool:
    """Tell whether `path` is a file as it was sealed; reads all of it, about a second a GiB."""
    if not path.exists():
        return False
    if path.is_file() and file_sha256(path) == read_record(_seal(path)):
        return True
    tell(path, "it is rebuilt")
    return False


def tell(path: Path, instead: str) -> None:
    """Say in one line that `path` is damaged, and what happens instead of using it."""
    print(f"parrot: warning: {path}: damaged; {instead}", file=sys.stderr, flush=True)


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256.json")


def _values(lines: list[bytes]) -> list[Any]:
    """Values of the lines that are as `sealed` wrote them, to the byte."""
    values = []
    for line in lines:
        try:
            value = json.loads(line)["value"]
        # Damage makes anything of a line: no text, no JSON, or another value.
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
        if sealed(value).encode() == line:
            values.append(value)
    return values
