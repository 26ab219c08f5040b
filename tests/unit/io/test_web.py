"""Addresses: which are opened, and what of them is shown."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from parrot.config.base import validate
from parrot.config.catalog import WebFolder
from parrot.config.settings import JudgeSettings
from parrot.errors import UserError
from parrot.io.web import check_address, open_address, shown, without_secrets
from parrot.tracking.store import connect

NO_SERVER = [
    "file:///etc/passwd", "ftp://host/x", "host:8000", "", "http://", "http://h:99999/", "http://a b/", "http://h/\n",
    "http://169.254.169.254/latest", "http://2852039166/", "http://0xa9fea9fe/", "http://[fe80::1]/",
    "http://[::ffff:169.254.169.254]/", "http://user:secret@169.254.1.1/",
]  # fmt: skip


@pytest.mark.parametrize("url", NO_SERVER)
def test_an_address_that_is_no_servers_is_refused_in_the_configuration_and_when_it_is_opened(url: str) -> None:
    for kind, entry in ((WebFolder, {"url": url}), (JudgeSettings, {"name": "judge", "url": url})):
        with pytest.raises(UserError, match="url: .*expected (an http|the address)") as refused:
            validate(kind, entry, "config")
        assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="expected"):
        open_address(url, 1)


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://10.0.0.1", "http://[::1]:5000", "http://judge"])
def test_servers_of_this_machine_and_of_the_cluster_are_taken(url: str) -> None:
    assert check_address(url) == url


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen = self.headers.get("Authorization")  # type: ignore[attr-defined]
        away = {"/file": "file:///etc/passwd", "/cloud": "http://169.254.169.254/"}.get(self.path)
        self.send_response(302 if away else 200)
        if away:
            self.send_header("Location", away)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(name="server")
def _server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("path", ["file", "cloud"])
def test_no_redirection_leads_to_a_file_or_a_cloud(server: HTTPServer, path: str) -> None:
    with pytest.raises((ValueError, urllib.error.HTTPError), match="expected|not allowed"):
        open_address(f"http://127.0.0.1:{server.server_port}/{path}", 5)


def test_a_password_is_a_header_and_no_part_of_the_name(server: HTTPServer) -> None:
    open_address(f"http://me:p%40ss@127.0.0.1:{server.server_port}/", 5)
    assert server.seen == "Basic bWU6cEBzcw=="  # type: ignore[attr-defined]


SECRET = {
    "http://me:p@ss@host:5000/x": "http://host:5000/x",
    "me:p%40ss@host": "host",
    "postgresql://me:p%40ss@host/db?sslpassword=hidden": "postgresql://host/db?sslpassword=***",
    "sqlite:////data/a@b.db": "sqlite:////data/a@b.db",
}


@pytest.mark.parametrize(("url", "expected"), SECRET.items())
def test_what_is_secret_is_not_shown(url: str, expected: str) -> None:
    assert shown(url) == expected
    if url.startswith("sqlite"):
        return
    said = without_secrets(f"cannot reach {url}, 'p@ss' and p%40ss are wrong, hidden too", url)
    assert "p@ss" not in said
    assert "p%40ss" not in said
    assert ("hidden too" in said) == ("hidden" not in url)


def test_an_unknown_host_with_a_password_is_told_without_it() -> None:
    with pytest.raises(ConnectionError) as refused:
        connect("http://me:p%40ss@nowhere.invalid:5000")
    assert "ss" not in str(refused.value).replace("Address", "").replace("address", "")
