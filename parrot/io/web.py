"""Addresses of servers: checked before they are opened, and shown without what is secret in them."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import socket
import urllib.request
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

HIDDEN = "***"
SHORTEST_SECRET = 3  # characters; hiding shorter ones would garble texts and protect nothing
_USER = re.compile(r"^((?:[\w+.-]+://)?)([^/?#]*)@")


def check_address(url: str) -> str:
    """`url`; ValueError unless it is http or https and names a host that may be a server's.

    Link-local hosts (169.254.0.0/16, fe80::/10) are none: there clouds hand out a machine's credentials.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"expected an http or https address: {error}") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"expected an http or https address, found {shown(url)}")
    _refuse_link_local(host, socket.AI_NUMERICHOST)
    return url


def check_resolved(url: str) -> str:
    """Return `url` when `check_address` takes it and its host's name, once resolved.

    Raises:
        ValueError: it is refused.
    """
    _refuse_link_local(urlsplit(check_address(url)).hostname or "")
    return url


def without_user(url: str) -> str:
    """Return the address without user and password, which `identity` gives as a header."""
    return _USER.sub(r"\1", url)


def open_address(url: str, timeout: float, data: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    """Return the response to a request, as urllib gives it; send a user and password in `url` as a header.

    Raises:
        OSError: there is no good response; includes urllib.error.HTTPError.
        ValueError: `check_address` refuses the address of the request or of a redirection; it resolves names.
    """
    request = urllib.request.Request(without_user(check_resolved(url)), data, identity(url) | (headers or {}))
    return _OPENER.open(request, timeout=timeout)


def identity(url: str, user: str | None = None, password: str | None = None) -> dict[str, str]:
    """Return the header that says who asks: the user of `url`, else the one given."""
    parts = urlsplit(url)
    user = unquote(parts.username) if parts.username is not None else user
    password = unquote(parts.password) if parts.password is not None else password
    if user is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password or str()}'.encode()).decode()}"}


def shown(url: str) -> str:
    """Return an address without user, password and the values of its query."""
    return re.sub(r"([?&;][^=&;#]+)=[^&;#]*", rf"\1={HIDDEN}", _USER.sub(r"\1", url))


def without_secrets(text: str, url: str) -> str:
    """`text`, such as a library's error about `url`, without what is secret in the address or in MLflow's variables."""
    match = _USER.match(url)
    user = match[2] if match else ""
    secrets = {
        user,
        user.partition(":")[2],
        *(value for _, value in parse_qsl(url.partition("?")[2].partition("#")[0])),
    }
    secrets |= {os.environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("PASSWORD", "TOKEN")}
    forms = {form for secret in secrets for form in (secret, unquote(secret), quote(secret, safe=""))}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= SHORTEST_SECRET:
            text = text.replace(form, HIDDEN)
    return text


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if (old.scheme, new.scheme) == ("https", "http"):
            raise ValueError(f"expected a redirection to https, found {shown(newurl)}")
        request = super().redirect_request(req, fp, code, msg, headers, without_user(check_resolved(newurl)))
        if request is not None and old.netloc != new.netloc:
            request.remove_header("Authorization")  # a token is meant for the first host alone
        return request


_OPENER = urllib.request.build_opener(_Redirects)


def _refuse_link_local(host: str, flags: int = 0) -> None:
    with suppress(OSError):  # a name that is not known, or to a proxy alone: opening it tells
        for *_, address in socket.getaddrinfo(host, None, flags=flags):
            found = ipaddress.ip_address(str(address[0]).partition("%")[0])
            if (getattr(found, "ipv4_mapped", None) or found).is_link_local:
                raise ValueError(f"expected the address of a server, found {host}, which is link-local")
