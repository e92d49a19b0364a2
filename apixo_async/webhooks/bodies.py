"""What may come as the body of a callback, and in which time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

BODY_MAX: Final = 64 * 1024
"""Bytes of a callback's body that are read."""
BODY_SECONDS: Final = 10.0
"""How long a sender may take for it."""
CONTENT_TYPES: Final = frozenset({"", "application/octet-stream", "text/plain"})
"""Beside all that speak of JSON; no document says which one is sent."""


def unfit(method: str, headers: Mapping[str, str]) -> HTTPStatus | None:
    """Why a request is refused before its body is read; headers by lower-case names."""
    if method != "POST":
        return HTTPStatus.METHOD_NOT_ALLOWED
    # An unpacked body may be a thousand times as large.
    if headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if "json" not in kind and kind not in CONTENT_TYPES:
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > BODY_MAX:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return None


async def read_capped(chunks: AsyncIterator[bytes]) -> bytes | HTTPStatus:
    """The whole body, or the status to refuse it with."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in chunks:
                body += chunk
                if len(body) > BODY_MAX:
                    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    except TimeoutError:
        return HTTPStatus.REQUEST_TIMEOUT
    except ConnectionError:  # nobody is there to read the answer
        return HTTPStatus.BAD_REQUEST
    return bytes(body)
