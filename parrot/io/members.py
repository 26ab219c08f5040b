"""A file, which may be a member of an archive: its digest, and what tells another one at its path."""

from __future__ import annotations

import hashlib
import os

from parrot.io.archives import find, open_archive
from parrot.io.digests import file_sha256
from parrot.io.files import split_path


def sha256_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    through = split_path(path)
    return hashlib.sha256(open_archive(through[0]).read(through[1])).hexdigest() if through else file_sha256(path)


def state_of(path: str) -> list[int]:
    """Size and time of change of a file; of a member its size, its CRC and its place in the archive."""
    member = find(path)
    if member is not None:
        return [member.size, member.crc, member.offset]
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]
