"""URLs of results as they come from the API: what is one, how it is shown, where it may lead."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from apixo_async.downloads.hosts import RefusedHostError

PORTS: Final = frozenset({80, 443, 8080, 8443})
"""Where files are served from on the public web. Anything else is somebody's private service."""

_LABEL: Final = re.compile(r"[\w-]{1,63}")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+(%[\w.-]+)?")


class InsecureRedirectError(Exception):
    """A redirect to where a file could be read or replaced on its way."""


def shown_url(url: str) -> str:
    """A URL for messages: without its query, which may be a signature, and without a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or not parts.netloc:
        return "a malformed URL"
    text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def read_url(text: str, *, allow_private: bool) -> URL:
    """The URL in `text`, as it was signed.

    Raises `ValueError` for what is no web address, `RefusedHostError` for a user, a password or an
    unusual port, unless private hosts are allowed. Which host it is shows when it is connected to.
    """
    parts = urlsplit(text)
    host = parts.hostname or ""
    is_named = all(map(_LABEL.fullmatch, host.removesuffix(".").split(".")))
    is_address = ":" in host and _ADDRESS.fullmatch(host) is not None
    # Reading the port checks it. aiohttp trips over some of what is refused here.
    if parts.scheme not in {"http", "https"} or parts.port == 0 or not (is_named or is_address):
        msg = "not a web address"
        raise ValueError(msg)
    url = _as_it_stands(text)
    if not allow_private:
        if url.user is not None or url.password is not None:
            raise RefusedHostError("it holds a user or a password")
        if url.port not in PORTS:
            raise RefusedHostError(f"port {url.port} is none that files are served from")
    return url


def read_redirect(start: URL, place: str, *, allow_private: bool) -> URL:
    """Where a redirect leads. Raises as `read_url` does, and `InsecureRedirectError`.

    What began with TLS goes on with it. Without TLS it may go on so among private hosts only.
    """
    url = read_url(str(start.join(_as_it_stands(place))), allow_private=allow_private)
    if url.scheme == "http" and (start.scheme == "https" or not allow_private):
        raise InsecureRedirectError
    return url


def _as_it_stands(text: str) -> URL:
    # Quoting a URL anew can break its signature, so only what needs it is quoted.
    return URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)
