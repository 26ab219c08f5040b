"""Downloads that go on where they stopped, from the first of several mirrors that has the right bytes.

Ours, since no library does all of it: pooch does not resume; huggingface_hub 2.4 does not resume across processes and
compares no digest.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.error
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from urllib.parse import urlsplit

from parrot.errors import UserError, is_of_disk
from parrot.io.digests import digest_by
from parrot.io.files import make_folder, read_object, replace, sync, write_json
from parrot.io.lock import exclusive_lock
from parrot.io.progress import Progress
from parrot.io.web import open_address, shown, without_secrets

WAITS = (1, 5, 20, 60, 120, 300)  # seconds between attempts; one that brought bytes starts them anew
FIRST_WAITS = 3  # those of a file of which nothing has arrived: nobody waits long for a host that is not there
LONGEST_WAIT = 600  # seconds that a server may ask for by Retry-After
SILENCE = 60  # seconds without a byte after which a connection is given up
SLOW, SLOW_SECONDS = 1 << 20, 600  # bytes per second, over so long, below which the next mirror is tried
AT_ONCE = 4  # downloads
PER_HOST = 2  # connections; GQA's host answers 503 to more
CHUNK = 1 << 20
UNREACHABLE: dict[str, str] = {}  # hosts that this process could not connect to, and why
Result = TypeVar("Result")
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Download:
    """A file to download.

    Attributes:
        target: where it is placed once it is complete and its digest agrees.
        urls: the same bytes, from the first that has them.
        size: in bytes; None where it is unknown.
        digests: by algorithm: sha256, md5 or git_sha1 (of a Git blob).
        headers: by the beginning of the addresses that they are sent to.
    """

    target: Path
    urls: tuple[str, ...]
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def partial(self) -> Path:
        """What has arrived so far; its state lies beside it."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def state(self) -> Path:
        """Where the partial file comes from."""
        return self.target.with_name(f".{self.target.name}.part.json")


class SourceError(Exception):
    """A source that does not have the file, or not now; the next one may."""


def download_all(downloads: Sequence[Download]) -> dict[Path, str]:
    """Download files, several at once; return why each that is not there could not be, by target.

    Raises:
        UserError: they do not fit on the disk.
    """
    missing = [one for one in downloads if not one.target.exists()]
    if not missing:
        return {}
    _check_space(missing)
    hosts = {urlsplit(url).netloc for one in missing for url in one.urls}
    connections = {host: threading.Semaphore(PER_HOST) for host in hosts}
    waiting = SimpleQueue[Download]()
    for one in missing:
        waiting.put(one)
    failed: dict[Path, Exception] = {}

    def work() -> None:
        with suppress(Empty):
            while True:
                one = waiting.get_nowait()
                try:
                    download(one, connections, progress.add)
                except Exception as error:  # raised below, where the command hears of it
                    failed[one.target] = error

    with Progress(sum(one.size or 0 for one in missing), "B") as progress:
        progress.skip(sum(_arrived(one) for one in missing))
        # Daemons, so that an interrupted command ends: what has arrived stays.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(AT_ONCE, len(missing)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for error in failed.values():
        if not isinstance(error, UserError):
            raise error
    return {target: str(error) for target, error in failed.items()}


def download(
    one: Download,
    connections: Mapping[str, threading.Semaphore] | None = None,
    count: Callable[[int], object] = lambda arrived: None,
) -> None:
    """Download a file unless it is there; `count` gets the bytes as they arrive.

    Raises:
        UserError: no source has it; the line says what each answered.
    """
    make_folder(one.target.parent)
    with exclusive_lock(one.partial, f"downloading {one.target}", wait=True):
        reasons = []
        for number, url in enumerate(one.urls):
            if one.target.exists():  # brought by the process that was waited for
                return
            try:
                with ExitStack() as held:
                    if connections is not None:
                        held.enter_context(connections[urlsplit(url).netloc])
                    _from_source(one, url, count, patient=number == len(one.urls) - 1)
            except SourceError as error:
                reasons.append(f"{shown(url)}: {error}")
                continue
            sync(one.partial)
            replace(one.partial, one.target)
            one.state.unlink(missing_ok=True)
            return
        raise UserError("; ".join(reasons))


def _from_source(one: Download, url: str, count: Callable[[int], object], patient: bool) -> None:
    """Bring all bytes from one source and compare them.

    Raises:
        SourceError: it does not have them, or, unless `patient`, is slow.
    """
    is_resumed = _arrived(one) > 0
    _bring(one, url, count, patient)
    wrong = fault_of(one.partial, one.size, one.digests)
    if wrong and is_resumed:  # another source, or a machine that lost power, may be to blame
        _discard(one, count)
        _bring(one, url, count, patient)
        wrong = fault_of(one.partial, one.size, one.digests)
    if wrong:
        _discard(one, count)
        raise SourceError(wrong)


def _bring(one: Download, url: str, count: Callable[[int], object], patient: bool) -> None:
    attempt(partial(_read, one, url, count, patient), url, partial(_arrived, one))


def attempt(request: Callable[[], Result], url: str, arrived: Callable[[], int] = lambda: 0) -> Result:
    """Return what `request` of `url` gives; after `WAITS` call it again where the server may answer later.

    The waits start anew whenever an attempt has brought bytes, which `arrived` counts.

    Raises:
        SourceError: the server refuses, or has not answered in time.
    """
    host = urlsplit(url).netloc
    if host in UNREACHABLE:
        raise SourceError(UNREACHABLE[host])
    waits = iter(WAITS if arrived() else WAITS[:FIRST_WAITS])
    while True:
        before = arrived()
        try:
            return request()
        except (OSError, ValueError, http.client.HTTPException) as error:
            if is_of_disk(error):
                raise
            if arrived() > before:
                waits = iter(WAITS)
            wait = next(waits, None)
            if wait is None or not _may_pass(error, begun=arrived() > 0):
                why = _why(error, url)
                if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
                    UNREACHABLE[host] = why
                raise SourceError(why) from None
            time.sleep(max(wait, _asked_to_wait(error)))


def _read(one: Download, url: str, count: Callable[[int], object], patient: bool) -> None:
    """Read what is missing of the file, in one connection.

    Raises:
        OSError: the connection broke or the server answered with an error.
        ValueError: the answer is not what was requested.
    """
    have = _arrived(one)
    known = read_object(one.state) if have and one.state.exists() else {}
    if have and not one.digests and (known.get("url") != url or not known.get("etag")):
        _discard(one, count)  # without a digest nothing tells that it is the same file
        have, known = 0, {}
    if one.size is not None and have == one.size:
        return
    headers = {"Accept-Encoding": "identity"}
    for start, some in one.headers.items():
        headers |= some if url.startswith(start) else {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.get("url") == url and known.get("etag"):
            headers["If-Range"] = known["etag"]
    try:
        answer = open_address(url, SILENCE, headers=headers)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            _discard(one, count)
            raise ConnectionError("the server has no more bytes than arrived before, of an unknown size") from None
        raise
    with answer:
        total = _total(answer, have)
        if answer.status != 206 and have:
            _discard(one, count)
        if one.size is not None and total is not None and total != one.size:
            raise SourceError(f"expected {one.size} bytes, found {total}")
        etag = answer.headers.get("ETag", "")
        write_json(one.state, {"url": url, "etag": "" if etag.startswith("W/") else etag})
        with open(one.partial, "ab") as file:
            _copy(answer, file, count, patient)
    if total is not None and _arrived(one) != total:
        raise ConnectionError(f"it ended {total - _arrived(one)} bytes early")


def _copy(answer: Any, file: Any, count: Callable[[int], object], patient: bool) -> None:
    since, arrived = time.monotonic(), 0
    while chunk := answer.read1(CHUNK):
        file.write(chunk)
        count(len(chunk))
        arrived += len(chunk)
        seconds = time.monotonic() - since
        if seconds >= SLOW_SECONDS:
            if arrived < SLOW * seconds and not patient:
                raise SourceError(f"slower than {SLOW / 1e6:.1f} MB/s for {seconds:.0f} s")
            since, arrived = time.monotonic(), 0


def _total(answer: Any, have: int) -> int | None:
    """Return the size of the whole file by an answer's headers.

    Raises:
        ValueError: a part was sent that was not requested.
    """
    if answer.status == 206:
        sent = answer.headers.get("Content-Range", "")
        match = RANGE.fullmatch(sent.strip())
        if not match or int(match[1]) != have or not have:
            raise ValueError(f"expected Content-Range: bytes {have}-, found {sent!r}")
        return None if match[3] == "*" else int(match[3])
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def fault_of(path: Path, size: int | None, digests: Mapping[str, str]) -> str:
    """Say what of a file is not as it must be; "" for nothing."""
    if size is not None and path.stat().st_size != size:
        return f"expected {size} bytes, found {path.stat().st_size}"
    for kind, expected in digests.items():
        found = digest_by(kind, path)
        if found != expected:
            return f"{kind}: expected {expected}, found {found}"
    return ""


def _discard(one: Download, count: Callable[[int], object]) -> None:
    count(-_arrived(one))
    one.partial.unlink(missing_ok=True)
    one.state.unlink(missing_ok=True)


def _arrived(one: Download) -> int:
    return one.partial.stat().st_size if one.partial.exists() else 0


def _may_pass(error: Exception, begun: bool) -> bool:
    """Tell whether a download that failed so may succeed later: overloaded, silent or interrupted servers.

    A host whose name is not known is there later only if it was there before.
    """
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (408, 429) or error.code >= 500
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError) or (isinstance(reason, socket.gaierror) and not begun):
        return False
    return isinstance(error, OSError | http.client.HTTPException)


def _asked_to_wait(error: Exception) -> float:
    """Return the seconds that a server asks for by Retry-After, at most `LONGEST_WAIT`."""
    text = error.headers.get("Retry-After", "") if isinstance(error, urllib.error.HTTPError) else ""
    if text.isdigit():
        return min(int(text), LONGEST_WAIT)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time.time(), 0), LONGEST_WAIT)
    except ValueError:
        return 0


def _why(error: Exception, url: str) -> str:
    if isinstance(error, TimeoutError):
        return f"no byte came for {SILENCE} s"
    if isinstance(error, urllib.error.HTTPError):
        return _of_hub(error.headers.get("X-Error-Code", "")) or f"HTTP {error.code} {error.reason}"
    reason = getattr(error, "reason", error)
    text = getattr(reason, "strerror", None) or str(reason)
    return without_secrets(" ".join(text.split()), url) or type(error).__name__


def _of_hub(code: str) -> str:
    """Say what a code of the Hugging Face hub means; "" for any other."""
    return {
        "RepoNotFound": "no such repository, or one that needs a token (HF_TOKEN)",
        "RevisionNotFound": "the repository has no such revision",
        "EntryNotFound": "the revision has no such file",
        "GatedRepo": "gated: accept its terms on its page, then set HF_TOKEN",
    }.get(code, "")


def _check_space(missing: Sequence[Download]) -> None:
    """Check that what is missing fits on the disks.

    Raises:
        UserError: it does not; the line names folder, bytes needed and bytes free.
    """
    needed: dict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for one in missing:
        make_folder(one.target.parent)
        device = os.stat(one.target.parent).st_dev
        needed[device] += max((one.size or 0) - _arrived(one), 0)
        folders.setdefault(device, one.target.parent)
    for device, size in needed.items():
        free = shutil.disk_usage(folders[device]).free
        if size > free:
            expected = f"expected {size / 1e9:.1f} GB of free disk for {len(missing)} downloads"
            raise UserError(f"{folders[device]}: {expected}, found {free / 1e9:.1f} GB")
