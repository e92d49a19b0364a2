"""What went wrong with a call, in one stable word: aiohttp's classes and the system's numbers."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp

REPLY_CAP: Final = 1024 * 1024
"""Bytes of one decoded answer that are read; a gzip bomb of 292 kB would become 300 MB."""


class TooLargeError(ValueError):
    """An answer longer than `REPLY_CAP`."""


DESCRIPTIONS: Final[Mapping[str, str]] = {
    "dns": "the host name cannot be resolved",
    "refused": "the connection was refused",
    "unreachable": "the network or host is unreachable",
    "tls": "the TLS certificate or handshake was not accepted",
    "netrc": "a .netrc has an account for this host, which would take the place of the key; "
    "remove it there, or pass a session without trust_env",
    "connect_timeout": "no connection was made in time",
    "timeout": "timed out",
    "resources": "this process has no free file descriptors or ports",
    "reset": "the connection was closed",
    "broken": "the answer was cut or malformed",
    "too_large": f"the answer exceeds {REPLY_CAP} bytes",
    "other": "the connection failed",
}
CONNECTING: Final = frozenset(
    {
        "dns",
        "refused",
        "unreachable",
        "tls",
        "netrc",
        "connect_timeout",
        "resources",
    }
)
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS})


# In this order: the first class that fits names the reason, so the narrower ones come first.
_REASONS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "dns"),
    ((aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError), "tls"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (TimeoutError, "timeout"),
    (ConnectionRefusedError, "refused"),
    (aiohttp.ClientConnectorError, "unreachable"),
    ((aiohttp.ServerDisconnectedError, OSError), "reset"),
    (TooLargeError, "too_large"),
    (aiohttp.ClientConnectionError, "other"),
    ((aiohttp.ClientError, ValueError), "broken"),
)


def reason_of(error: Exception) -> str:
    """One stable word for what went wrong."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _OUT_OF_RESOURCES:
        return "resources"
    if number == errno.ECONNREFUSED:
        return "refused"
    if type(error) is ValueError and "AUTHORIZATION" in str(error):
        return "netrc"  # aiohttp sends no two of them
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), "other")
