"""Files inside archives, read at their offset: ZIP, also split into volumes, and TAR. Nothing is extracted.

A member is named by a path that goes through its archive, such as ``images/train2017.zip/train2017/000000000009.jpg``.
An archive is read through its index, ``train2017.zip.index`` beside it: an Arrow file, sorted by name, which all
processes map into memory. It is built once, by the first process that needs it, and again when the archive changes.

Ours, since Python's zipfile keeps every name of an archive in each process and reads no volumes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import unicodedata
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from parrot.errors import UserError
from parrot.io.digests import file_sha256
from parrot.io.files import atomic_path, split_path
from parrot.io.lock import exclusive_lock

STORED, DEFLATED = 0, 8
SCHEMA = pa.schema(
    {
        "name": pa.string(),  # as in the archive, / between folders
        "volume": pa.uint16(),
        "offset": pa.uint64(),  # of the local header in a ZIP's volume, of the data in a TAR
        "method": pa.uint16(),  # of compression, by ZIP's numbers
        "stored": pa.uint64(),  # bytes in the archive
        "size": pa.uint64(),
        "crc": pa.uint32(),  # of the file; 0 in a TAR, which has none
    }
)
# PKWARE's APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16, without the signatures.
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
LOCATOR = struct.Struct("<4sIQI")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCAL = struct.Struct("<4s5H3I2H")
UTF8, ENCRYPTED = 1 << 11, 1
LONGEST_END = END.size + 2**16  # with its comment


class Member(NamedTuple):
    """Where a file lies in an archive: the columns of `SCHEMA`."""

    name: str
    volume: int
    offset: int
    method: int
    stored: int
    size: int
    crc: int


def find(path: str) -> Member | None:
    """Return the member that `path` names through an archive; None where it names none.

    Raises:
        UserError: as `Archive`.
    """
    through = split_path(path)
    return open_archive(through[0]).find(through[1]) if through else None


def sha256_of(path: str) -> str:
    """SHA-256 of a file, which may be a member, in hexadecimal."""
    through = split_path(path)
    return hashlib.sha256(open_archive(through[0]).read(through[1])).hexdigest() if through else file_sha256(path)


def state_of(path: str) -> list[int]:
    """Size and time of change of a file; of a member its size, its CRC and its place in the archive."""
    member = find(path)
    if member is not None:
        return [member.size, member.crc, member.offset]
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


@lru_cache(maxsize=64)
def open_archive(archive: str) -> Archive:
    """Return the archive, one for each process; its index is built where there is none that fits."""
    return Archive(archive)


class Archive:
    """An archive's members by name, and their bytes.

    Raises:
        UserError: the file is no such archive, is cut, lacks a volume or holds what cannot be read: an encrypted file,
            or one compressed by another method than deflate.
    """

    def __init__(self, archive: str):
        self.path = archive
        self.volumes = _volumes(archive)
        index = Path(f"{archive}.index")
        if not _fits(index, self.volumes):
            with exclusive_lock(index, f"building the index of {archive}", wait=True):
                if not _fits(index, self.volumes):
                    _build(archive, self.volumes, index)
        self._table = _read(index)
        self._names = self._table["name"].chunk(0)
        self._volumes = Volumes(self.volumes)

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> Iterator[str]:
        """Yield the members' names, sorted by their bytes."""
        return (name.as_py() for name in self._names)

    def find(self, name: str) -> Member | None:
        """Return the member `name`; None where there is none.

        It is matched as given, then in Unicode's form NFC, then NFKD; and in each without its first folder, if no
        member lies in that, and within the folders that are around all members.
        """
        for form in dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFKD", name))):
            for wrapped in self._wrapped(form):
                if (found := self._exact(wrapped)) is not None:
                    return found
        return None

    def _wrapped(self, name: str) -> Iterator[str]:
        first, slash, rest = name.partition("/")
        inside = [name] if not slash or self._has_folder(first) else [name, rest]
        yield from inside
        if self._around:
            yield from (f"{self._around}/{each}" for each in inside)

    @cached_property
    def _around(self) -> str:
        """Folders around all members, whose names are sorted."""
        return os.path.commonprefix([self._names[place].as_py() for place in (0, -1)]).rpartition("/")[0]

    def _has_folder(self, folder: str) -> bool:
        place = self._place(f"{folder}/")
        return place < len(self._names) and self._names[place].as_py().startswith(f"{folder}/")

    def _place(self, name: str) -> int:
        return bisect_left(self._names, name.encode(), key=lambda scalar: scalar.as_buffer().to_pybytes())

    def _exact(self, name: str) -> Member | None:
        place = self._place(name)
        if place < len(self._names) and self._names[place].as_py() == name:
            return Member(*(self._table[column][place].as_py() for column in SCHEMA.names))
        return None

    def read(self, name: str) -> bytes:
        """Return a member's bytes, compared with its CRC where the archive has one.

        Raises:
            FileNotFoundError: there is no such member.
            UserError: the archive is cut or damaged there.
        """
        member = self.find(name)
        if member is None:
            raise FileNotFoundError(f"{self.path}/{name}")
        try:
            return self._content(member)
        except (zlib.error, struct.error, ValueError) as error:
            raise UserError(f"{self.path}/{name}: the archive is damaged there: {error}") from None

    def _content(self, member: Member) -> bytes:
        if self.path.endswith(".tar"):
            return self._volumes.read(0, member.offset, member.stored)
        header = LOCAL.unpack(self._volumes.read(member.volume, member.offset, LOCAL.size))
        if header[0] != b"PK\3\4":
            raise ValueError("no header of a file")
        behind = member.offset + LOCAL.size + header[-2] + header[-1]
        content = self._volumes.read(member.volume, behind, member.stored)
        if member.method == DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, member.size + 1)  # never a bomb
        if len(content) != member.size or zlib.crc32(content) != member.crc:
            raise ValueError(f"expected {member.size} bytes with CRC {member.crc:08x}")
        return content


class Volumes:
    """The files that an archive consists of, read as one."""

    def __init__(self, paths: list[str]):
        self.paths = paths
        self._files: dict[int, int] = {}

    def read(self, volume: int, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset` of a volume on, and on into those behind it; ValueError at the end."""
        parts = []
        while count:
            part = os.pread(self._file(volume), count, offset)
            if part:
                parts.append(part)
                count, offset = count - len(part), offset + len(part)
            elif volume + 1 < len(self.paths):
                offset -= os.fstat(self._file(volume)).st_size
                volume += 1
            else:
                raise ValueError("it ends before")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _file(self, volume: int) -> int:
        # Opened at the first read, so in each process of its own; `pread` moves no position that others share.
        if volume not in self._files:
            self._files[volume] = os.open(self.paths[volume], os.O_RDONLY | os.O_CLOEXEC)
        return self._files[volume]

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


def _volumes(archive: str) -> list[str]:
    """Return the files of an archive in order: X.z01, X.z02, ... and X.zip, or the archive alone."""
    stem = archive.removesuffix(".zip")
    volumes: list[str] = []
    while stem != archive and os.path.isfile(volume := f"{stem}.z{len(volumes) + 1:02d}"):
        volumes.append(volume)
    return [*volumes, archive]


def _state(volumes: list[str]) -> bytes:
    return repr([(os.path.getsize(path), os.stat(path).st_mtime_ns) for path in volumes]).encode()


def _fits(index: Path, volumes: list[str]) -> bool:
    """Tell whether `index` is that of the archive as its files are: by their sizes and times."""
    try:
        return (_read(index).schema.metadata or {}).get(b"archive") == _state(volumes)
    except (OSError, pa.ArrowInvalid):
        return False


def _read(index: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(index))).read_all()


def _build(archive: str, volumes: list[str], index: Path) -> None:
    state = _state(volumes)
    members = {member.name: member for member in (_tar if archive.endswith(".tar") else _zip)(archive, volumes)}
    if not members:
        raise UserError(f"{archive}: expected an archive with files, found none")
    ordered = sorted(members.values(), key=lambda member: member.name.encode())
    columns = [pa.array(values, field.type) for values, field in zip(zip(*ordered, strict=True), SCHEMA, strict=True)]
    table = pa.table(columns, schema=SCHEMA.with_metadata({"archive": state}))
    with atomic_path(index) as partial, pa.ipc.new_file(str(partial), table.schema) as writer:
        writer.write_table(table, max_chunksize=len(table))


def _tar(archive: str, volumes: list[str]) -> Iterator[Member]:
    try:
        with tarfile.open(archive, "r:") as file:
            for entry in file:
                if entry.isreg() and not entry.issparse():
                    name = entry.name.removeprefix("./")
                    yield Member(name, 0, entry.offset_data, STORED, entry.size, entry.size, 0)
                file.members.clear()  # type: ignore[attr-defined]  # it would keep them all
            if file.fileobj is not None and os.path.getsize(archive) < file.offset:
                raise UserError(f"{archive}: it ends within a file; fetch it again")
    except (tarfile.TarError, OSError) as error:
        raise UserError(f"{archive}: expected a tar archive: {error}") from None


def _zip(archive: str, volumes: list[str]) -> Iterator[Member]:
    try:
        directory, entries, before = _directory(Volumes(volumes))
        yield from _entries(archive, directory, entries, before)
    except (struct.error, ValueError) as error:
        raise UserError(f"{archive}: expected a complete ZIP archive: {error}") from None


def _directory(volumes: Volumes) -> tuple[bytes, int, int]:
    """Return the list of files, how many it holds, and the bytes before the archive that no offset counts."""
    last, size = len(volumes.paths) - 1, os.path.getsize(volumes.paths[-1])
    tail = volumes.read(last, max(0, size - LONGEST_END), min(size, LONGEST_END))
    found = tail.rfind(b"PK\5\6")
    if found < 0:
        raise ValueError("no end record")
    end = size - len(tail) + found
    _, number, disk, _, entries, length, offset, _ = END.unpack_from(tail, found)
    if found >= LOCATOR.size and tail[found - LOCATOR.size : found].startswith(b"PK\6\7"):
        _, disk64, offset64, _ = LOCATOR.unpack_from(tail, found - LOCATOR.size)
        # Offsets are from the start of a volume; of a single one with bytes before it, only the place is sure.
        place = end - LOCATOR.size - END64.size if last == 0 else offset64
        record = END64.unpack(volumes.read(disk64 if last else 0, place, END64.size))
        if record[0] != b"PK\6\6":
            raise ValueError("no 64-bit end record")
        *_, number, disk, _, entries, length, offset = record
        end = place
    if number != last:
        raise ValueError(f"expected {number} volumes (.z01, .z02, ...) beside it, found {last}")
    before = end - length - offset if last == 0 else 0
    if before < 0:
        raise ValueError("its list of files lies before its start")
    return volumes.read(disk, offset + before, length), entries, before


def _entries(archive: str, directory: bytes, entries: int, before: int) -> Iterator[Member]:
    place = 0
    for _ in range(entries):
        fields = CENTRAL.unpack_from(directory, place)
        signature, _, _, flags, method, _, _, crc, stored, size, length, extra, comment, volume, _, _, offset = fields
        if signature != b"PK\1\2":
            raise ValueError("its list of files is damaged")
        start = place + CENTRAL.size
        place = start + length + extra + comment
        name = directory[start : start + length].decode("utf-8" if flags & UTF8 else "cp437")
        if name.endswith("/"):
            continue
        if 0xFFFFFFFF in (stored, size, offset) or volume == 0xFFFF:
            fits = directory[start + length : start + length + extra]
            size, stored, offset, volume = _wide(fits, size, stored, offset, volume)
        if flags & ENCRYPTED or method not in (STORED, DEFLATED):
            raise UserError(f"{archive}/{name}: expected a file stored or deflated, without a password")
        yield Member(name, volume, offset + before, method, stored, size, crc)


def _wide(extra: bytes, size: int, stored: int, offset: int, volume: int) -> tuple[int, int, int, int]:
    """Return the values of an entry, of which its 64-bit field (4.5.3) holds those that are at their limit."""
    place = 0
    while place < len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        place += 4
        if kind == 1:
            if size == 0xFFFFFFFF:
                (size,), place = struct.unpack_from("<Q", extra, place), place + 8
            if stored == 0xFFFFFFFF:
                (stored,), place = struct.unpack_from("<Q", extra, place), place + 8
            if offset == 0xFFFFFFFF:
                (offset,), place = struct.unpack_from("<Q", extra, place), place + 8
            if volume == 0xFFFF:
                (volume,) = struct.unpack_from("<I", extra, place)
            return size, stored, offset, volume
        place += length
    raise ValueError("an entry lacks its 64-bit field")
