"""The error that users see, and in one line what machine and user did: full disks, unwritable paths, interruptions.

Each writing library has errors of its own for a full disk, often without the path. `naming` makes them the system's
again where something is written, `one_line` words any error, and `in_one_line` is around every command.
"""

from __future__ import annotations

import difflib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
CLOSED_PIPE = 128 + signal.SIGPIPE
# What the system says of a disk rather than of a name; libraries put its words into messages of their own.
DISK = {
    os.strerror(number): number
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.ESTALE)
}
SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
}
# torch tells that it could not write an archive, and not why.
TORCH = re.compile(r"PytorchStreamWriter failed|inline_container\.cc")
KILLED_LOADER = re.compile(r"DataLoader worker .*(?:killed by signal|exited unexpectedly).*")


class UserError(ValueError):
    """A user's configuration or data is wrong; the message is one line naming file, field and what was expected."""

    def __str__(self) -> str:
        return "\\n".join(super().__str__().splitlines())  # of a name that holds line ends


@contextmanager
def naming(path: str | Path, partial: str | Path | None = None) -> Iterator[None]:
    """Have errors of writing `path` be OSErrors that name it, also where it is written as `partial` first."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in DISK.values():
            error.filename = str(path)
        elif partial is not None and error.filename is not None:
            error.filename = str(error.filename).replace(str(partial), str(path), 1)
        raise
    except UserError:
        raise
    except Exception as error:
        number = _number(error, Path(path))
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def one_line(error: BaseException) -> str | None:
    """Return the line that tells a user of `error`; None for an error of ours, which only its traceback explains."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, OSError):
        known = error.errno in DISK.values() or error.strerror is None
        word = os.strerror(error.errno) if known and error.errno else error.strerror or str(error)
        where = "" if error.filename is None else f"{error.filename2 or error.filename}: "
        return " ".join(f"{where}{word or type(error).__name__}".split())
    if isinstance(error, MemoryError):
        return "the machine has no memory left"
    if isinstance(error, RuntimeError) and (found := KILLED_LOADER.search(str(error))):
        return f"{found[0]}; expected more memory for it, or fewer processes (hardware's workers)"
    if (number := _number(error, Path())) is None:
        return one_line(error.__cause__) if isinstance(error.__cause__, OSError) else None
    word = os.strerror(number)
    return next((" ".join(line.split()) for line in str(error).splitlines() if word in line), word)


def is_of_disk(error: BaseException) -> bool:
    """Tell whether the machine's disk, rather than what was asked of it, is why `error` was raised."""
    return error.errno in (*DISK.values(), errno.EACCES) if isinstance(error, OSError) else False


def _number(error: BaseException, path: Path) -> int | None:
    """Return the system's number of an error that another library made of it; None for other errors."""
    text = str(error)
    for word, number in (DISK | SQLITE).items():
        if word in text:
            return number
    if TORCH.search(text):
        there = next(place for place in (path, *path.absolute().parents) if place.exists())
        return errno.ENOSPC if os.statvfs(there).f_bavail * os.statvfs(there).f_frsize < 1 << 20 else errno.EIO
    return None


@contextmanager
def in_one_line() -> Iterator[None]:
    """Around a command: what user or machine did is one line on stderr, with exit code 1; an interrupt's is 130.

    Standard input is UTF-8, as files are. What standard output cannot encode is escaped, and a reader that leaves
    (`| head`) ends the command without a word.
    """
    _open_streams()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupted)
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        _flush()
        sys.exit(CLOSED_PIPE)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        print("parrot: error:", line, file=sys.stderr)
        sys.exit(1)


def _open_streams() -> None:
    """Have a stream that was closed before the command started be empty, lest a file of ours gets its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _interrupted(*_: object) -> NoReturn:
    print("parrot: interrupted", file=sys.stderr)
    raise SystemExit(INTERRUPTED)


def _flush() -> None:
    """Send what was printed; what cannot be sent is dropped, lest the interpreter tries again at its end."""
    if sys.stdout.closed:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = "standard output"
        raise


def nearest(name: str, known: Iterable[str], most: int = 3) -> str:
    """``did you mean A, B or C?`` of the `known` names that are like `name`, or all of them where none is."""
    known = tuple(known)
    found = difflib.get_close_matches(name, known, n=most)
    if not found:
        return f"known are {', '.join(known)}"
    *others, last = found
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
