"""The Hugging Face hub: addresses of files, and a repository's files with their sizes and digests.

`huggingface_hub` is not used for downloads: it does not resume across processes, compares no digest, and takes an
incomplete folder for a snapshot where the hub cannot be reached.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from parrot.config.catalog import HubFile, RepositoryType
from parrot.errors import UserError
from parrot.fetch.download import SILENCE, Download, SourceError, attempt
from parrot.io.web import open_address

OFFLINE = "HF_HUB_OFFLINE forbids requests"
COMMIT = re.compile("[0-9a-f]{40}")
NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


class Listed(NamedTuple):
    """A file of a repository: its path, size in bytes, and digest by algorithm."""

    path: str
    size: int
    digests: Mapping[str, str]


def endpoint() -> str:
    """Return the hub's address, which HF_ENDPOINT may give."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def is_offline() -> bool:
    """Tell whether HF_HUB_OFFLINE forbids requests."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def authorization() -> dict[str, dict[str, str]]:
    """Return the headers that HF_TOKEN gives, for the hub's own addresses alone."""
    token = os.environ.get("HF_TOKEN", "").strip()
    return {f"{endpoint()}/": {"Authorization": f"Bearer {token}"}} if token else {}


def url_of(source: HubFile) -> str:
    """Return the address of a file at its revision."""
    return _url(source.repository, source.type, source.revision, source.file)


def files_of(
    repository: str, kind: RepositoryType, revision: str, patterns: Sequence[str], folder: str, target: Path
) -> list[Download]:
    """Return the files in a repository's `folder` that fit one of `patterns`, to be placed in `target`.

    Patterns are those of `fnmatch` for names in the folder itself; files of folders below it are none.

    Raises:
        UserError: the hub does not answer, or has no such repository, revision or file.
    """
    if COMMIT.fullmatch(revision):
        commit = revision
    else:
        found, _ = _page(repository, f"{_api(repository, kind)}/revision/{quote(revision, safe='')}")
        commit = str(found.get("sha")) if isinstance(found, dict) else ""
        if not COMMIT.fullmatch(commit):
            raise UserError(f"{repository}: {endpoint()}: expected the commit of revision {revision}, found none")
    prefix = f"{folder}/" if folder else ""
    inside = [one for one in _tree(repository, kind, commit) if one.path.startswith(prefix)]
    names = [one.path.removeprefix(prefix) for one in inside]
    downloads = [
        Download(target / name, (_url(repository, kind, commit, one.path),), one.size, one.digests, authorization())
        for one, name in zip(inside, names, strict=True)
        if "/" not in name and any(fnmatch(name, pattern) for pattern in patterns)
    ]
    if not downloads:
        raise UserError(f"{repository}: revision {revision} has no {prefix}{' or '.join(patterns)}")
    return downloads


@cache
def _tree(repository: str, kind: RepositoryType, commit: str) -> tuple[Listed, ...]:
    return tuple(_listed(repository, kind, commit))


def _listed(repository: str, kind: RepositoryType, commit: str) -> Iterator[Listed]:
    url: str | None = f"{_api(repository, kind)}/tree/{commit}?recursive=true&expand=false"
    while url:
        entries, url = _page(repository, url)
        try:
            for entry in entries:
                if entry["type"] == "file":
                    lfs = entry.get("lfs")
                    digests = {"sha256": lfs["oid"]} if lfs else {"git_sha1": entry["oid"]}
                    yield Listed(str(entry["path"]), int((lfs or entry)["size"]), digests)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise UserError(f"{repository}: {endpoint()}: expected a list of files, found something else") from None


def _page(repository: str, url: str) -> tuple[Any, str | None]:
    """Return an answer of the hub's, and the address of the next page of it."""

    def request() -> tuple[Any, str | None]:
        token = authorization().get(f"{endpoint()}/") if url.startswith(f"{endpoint()}/") else None
        with open_address(url, SILENCE, headers=token) as answer:
            following = NEXT.search(answer.headers.get("Link", ""))
            return json.load(answer), following[1] if following else None

    if is_offline():
        raise UserError(f"{repository}: {OFFLINE}")
    try:
        return attempt(request, url)
    except SourceError as error:
        raise UserError(f"{repository}: {endpoint()}: {error}") from None


def _api(repository: str, kind: RepositoryType) -> str:
    return f"{endpoint()}/api/{kind}s/{repository}"


def _url(repository: str, kind: RepositoryType, revision: str, file: str) -> str:
    prefix = "datasets/" if kind == "dataset" else ""
    return f"{endpoint()}/{prefix}{repository}/resolve/{quote(revision, safe='')}/{quote(file)}"
