"""Whole files, and text and JSON in them.

All is written beside itself and renamed, so that a file that exists is complete. Text is UTF-8, with or without a
byte-order mark; YAML is read by `parrot.config.strict_yaml`, JSON lists of any size by `parrot.data.json_stream`.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from parrot.errors import UserError, naming

SECONDS_BETWEEN_TRIES = (0.1, 0.5, 2.0)
CHUNK = 1 << 24  # bytes
ARCHIVES = (".zip", ".tar")  # whose members `parrot.io.archives` reads
Result = TypeVar("Result")
NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "panfs", "glusterfs", "afs", "wekafs", "9p"}
)
SPECIAL = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it becomes `path`, on failure nothing is left.

    The folder is made where it is missing. The temporary name keeps the suffix, since writers read formats off it, and
    is no other writer's: nodes that share a folder may have the same process numbers.
    """
    path = Path(path)
    partial = _beside(path)
    with naming(path, partial):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        make_folder(path.parent)
        try:
            yield partial
            sync(partial)
            replace(partial, path)
            sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Return a new name in the folder of `path`, which may itself be as long as a name can be."""
    return path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex}.partial{path.suffix[:10]}")


def split_path(path: str) -> tuple[str, str] | None:
    """Return the archive that `path` goes through and the member's name; None where it goes through none."""
    for suffix in ARCHIVES:
        start = path.find(f"{suffix}/")
        while start >= 0:
            archive = path[: start + len(suffix)]
            if os.path.isfile(archive):
                return archive, path[len(archive) + 1 :]
            start = path.find(f"{suffix}/", start + 1)
    return None


def archive_or_self(path: str) -> str:
    """Return the archive that `path` goes through, or `path` itself."""
    through = split_path(path)
    return through[0] if through else path


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        UserError: one cannot be made.
    """
    try:
        patiently(path.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made a folder: {error.strerror}") from None


def check_folder(path: Path) -> None:
    """Check, before anything is computed, that the folder `path` can be made and written to.

    Raises:
        UserError: it cannot.
    """
    there = next(place for place in (path, *path.absolute().parents) if os.path.lexists(place))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"{there}: cannot be written to: {error.strerror}") from None


def replace(source: Path, target: Path) -> None:
    """Rename a file or folder over `target`; across file systems it is copied beside `target` first."""
    try:
        patiently(os.replace, source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = _beside(target)
        try:
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
            patiently(os.replace, copy, target)
        finally:
            remove(copy)
        remove(source)


def replace_folder(source: Path, target: Path) -> None:
    """`replace` for folders, of which `target` need not be empty; one behind a link is replaced where it lies."""
    target = real_path(target)
    if target.is_dir():
        shutil.rmtree(target)
    replace(source, target)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def patiently(call: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
    """Return what `call` gives; call it again where a network file system has lost hold of a path (ESTALE)."""
    for pause in SECONDS_BETWEEN_TRIES:
        try:
            return call(*arguments, **named)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        time.sleep(pause)
    return call(*arguments, **named)


def sync(path: Path) -> None:
    """Have what this machine wrote to the file or folder `path` on the disk, lest a power cut leave a name alone."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # not every file system can sync folders
            raise
    finally:
        os.close(file)


def sync_tree(folder: Path) -> list[str]:
    """`sync` all files and folders below `folder`, and itself; the files' names in it."""
    below = sorted(folder.rglob("*"))
    for path in (*below, folder):
        sync(path)
    return [str(path.relative_to(folder)) for path in below if path.is_file()]


def complete_lines(content: bytes) -> list[bytes]:
    """Return the complete lines of a file that grows, with their ends; a last one without its end is left out."""
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def parse_rows(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """Parse the lines of a training's record, a JSON object with a step each; leave out damaged ones."""
    found = []
    for line in lines:
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                found.append(row)
    return found


def atomic_write(path: str | Path, content: str | bytes) -> None:
    """Write text (UTF-8) or bytes to `path` as a whole."""
    with atomic_path(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; equal values give equal bytes where their keys stand in the same order."""
    atomic_write(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def check_regular(path: str | Path) -> None:
    """Check that `path` is a file or a link to one; reading a named pipe or a terminal would wait for ever.

    Raises:
        UserError: it is none.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(mode):
        found = next((what for is_one, what in SPECIAL.items() if is_one(mode)), "none")
        raise UserError(f"{path}: expected a regular file, found {found}")


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file, a byte-order mark left out, line ends as they are.

    Raises:
        UserError: the file cannot be read, or has another encoding; the latter names line and byte.
    """
    return _decoded(read_content(path).removeprefix(codecs.BOM_UTF8), path)


def _decoded(content: bytes, path: str | Path) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, error.start - content.rfind(b"\n", 0, error.start)
        found = f"0x{content[error.start]:02x}"
        raise UserError(f"{path}: line {line}, byte {byte}: expected text in UTF-8, found {found}") from None


def read_content(path: str | Path) -> bytes:
    """Return the bytes of a text file.

    Disks and downloads leave zeros, of any number, in place of what they lost.

    Raises:
        UserError: the file cannot be read, or has a zero byte.
    """
    check_regular(path)
    parts: list[bytes] = []
    line = 1
    try:
        with open(path, "rb") as file:
            while part := file.read(CHUNK):
                if (zero := part.find(b"\0")) >= 0:
                    _decoded(b"".join([*parts, part[:zero]]), path)  # UTF-16, which has zeros, is told by its encoding
                    line += part.count(b"\n", 0, zero)
                    raise UserError(f"{path}: line {line}: expected text, found a zero byte")
                parts.append(part)
                line += part.count(b"\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return b"".join(parts)


def real_path(path: str | Path) -> Path:
    """`path` behind all links, as `Path.resolve`, which raises RuntimeError where links lead round in a circle."""
    return Path(os.path.realpath(path))


def read_json(path: str | Path) -> Any:
    """Return the value that a JSON file holds.

    Raises:
        UserError: the file is malformed or has a name twice; the line is named.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """Return the value of the JSON that lies at `where`.

    Raises:
        UserError: as `read_json`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except _Doubled as error:
        raise UserError(f"{where}: line {_second(text)}: {error} is there twice; expected every name once") from None
    except UnicodeEncodeError:
        raise UserError(f"{where}: expected text, found half of a surrogate pair") from None
    except RecursionError:
        raise UserError(f"{where}: expected JSON: lists or objects are nested too deeply") from None
    except ValueError as error:
        raise UserError(f"{where}: expected JSON: {error}") from None
    return value


class _Doubled(ValueError):
    """A name that an object has twice."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Doubled(next(name for place, name in enumerate(names) if name in names[:place]))
    return found


def _second(text: str) -> int:
    """Return the line of the first name that its object already has, in JSON with such a name."""
    names: list[set[str]] = []
    for token in re.finditer(r'("(?:[^"\\]|\\.)*")\s*(:?)|[{}]', text):
        if token[0] == "{":
            names.append(set())
        elif token[0] == "}":
            names.pop()
        elif token[2]:
            name = json.loads(token[1])
            if name in names[-1]:
                return text.count("\n", 0, token.start()) + 1
            names[-1].add(name)
    raise AssertionError(text)


def read_object(path: str | Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        UserError: the file is missing, malformed or holds another value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, which replaces it on success; on failure nothing changes."""
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    with naming(folder, partial):
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        shutil.rmtree(partial, ignore_errors=True)
        make_folder(partial)
        try:
            yield partial
            for path in partial.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    path.chmod(partial.stat().st_mode & 0o666)  # safetensors writes for its user alone
            replace_folder(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def network_file_system(path: Path) -> str | None:
    """Return the type, such as nfs4, of the network file system that holds `path`; None for a local one."""
    import psutil  # 10 ms that not every start of the command line pays

    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    whole = real_path(path)
    kind = next((mounts[place] for place in (whole, *whole.parents) if place in mounts), "")
    # Outside the kernel they are mounted as fuse.sshfs, fuse.juicefs and the like.
    return kind if kind in NETWORK or kind.startswith("fuse.") else None
