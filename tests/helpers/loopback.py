"""A web server and a Hugging Face hub on this machine, with every fault that real ones show."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class Loopback(ThreadingHTTPServer):
    """Serves `files`, by path, with Range; `faults`, by path, answer in place of it until one returns False.

    Attributes:
        requests: path and headers of each request, in order.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Callable[[Answer], bool]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that broke off, which tests mean them to."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def requested(self, path: str) -> list[dict[str, str]]:
        """Headers of the requests of `path`."""
        return [headers for asked, headers in self.requests if asked == path]

    def add_repository(
        self, repository: str, files: dict[str, bytes], kind: str = "model", commit: str = COMMIT, large: int = 1000
    ) -> None:
        """Serve files of a hub repository, beside others of it; those of `large` bytes and more are in LFS.

        `commit` may be the beginning of a commit, which the API then tells.
        """
        complete = commit.ljust(40, "0")
        api = f"/api/{kind}s/{repository}"
        entries: list[dict[str, Any]] = json.loads(self.files.get(f"{api}/tree/{complete}", b"[]"))
        entries = [entry for entry in entries if entry["path"] not in files]
        prefix = "" if kind == "model" else f"{kind}s/"
        for path, content in files.items():
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
            if len(content) >= large:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            entries.append(entry)
            self.files[f"/{prefix}{repository}/resolve/{complete}/{path}"] = content
        for revision in ("main", commit, complete):
            self.files[f"{api}/revision/{revision}"] = json.dumps({"sha": complete}).encode()
        self.files[f"{api}/tree/{complete}"] = json.dumps(entries).encode()


class Answer(BaseHTTPRequestHandler):
    """One answer."""

    server: Loopback

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((path, dict(self.headers)))
        if path in self.server.faults and self.server.faults[path](self):
            return
        if path not in self.server.files:
            self.refuse(404, {"X-Error-Code": "EntryNotFound"})
            return
        self.send(self.server.files[path])

    def start_of(self) -> int:
        """First byte that is requested."""
        return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))

    def send(self, content: bytes, most: int | None = None, pause: float = 0) -> None:
        """Answer a request for `content`; break off after `most` bytes, `pause` seconds before each 1,000."""
        start = self.start_of()
        if start > len(content) or (start == len(content) and start):
            self.refuse(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        self.end_headers()
        sent = content[start:] if most is None else content[start : start + most]
        for place in range(0, len(sent), 1000 if pause else max(len(sent), 1)):
            time.sleep(pause)
            self.wfile.write(sent[place : place + 1000] if pause else sent)

    def refuse(self, code: int, headers: dict[str, str] | None = None) -> bool:
        """Answer with an error."""
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def loopback() -> Iterator[Loopback]:
    """A server that listens meanwhile."""
    with Loopback() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def times(count: int, fault: Callable[[Answer], Any]) -> Callable[[Answer], bool]:
    """`fault` for the first `count` requests."""
    left = [count]

    def answer(request: Answer) -> bool:
        if not left[0]:
            return False
        left[0] -= 1
        fault(request)
        return True

    return answer


def broken(content: bytes, seed: int = 0) -> Callable[[Answer], None]:
    """Break the connection after a random number of bytes."""
    draw = random.Random(seed)
    return lambda request: request.send(content, most=draw.randrange(len(content) // 20))
