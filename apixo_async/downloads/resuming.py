"""How a transfer that broke off goes on: what to ask for, and when the answer may be appended.

Bytes of two versions of a file make a broken one with the right length. So the rest is asked for
only under a condition that names the version (RFC 9110, 13.1.5 "If-Range"), and appended only if
the answer says that it fits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import attrs

_STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)


@attrs.define
class Transfer:
    """One file on its way, over as many answers as it takes. Sizes are in bytes."""

    total: int | None = None
    """The size of the whole file, where it is known."""
    _validator: str | None = attrs.field(default=None, init=False)
    _furthest: int = attrs.field(default=0, init=False)
    _distrusts_ranges: bool = attrs.field(default=False, init=False)

    def request_headers(self, size: int) -> dict[str, str]:
        """What asks for the rest after the first `size` bytes; empty to ask for the whole."""
        if size == 0 or self._validator is None:
            return {}
        return {"Range": f"bytes={size}-", "If-Range": self._validator}

    def start(self, headers: Mapping[str, str], length: int | None) -> None:
        """A whole file of `length` bytes begins to arrive (200), `None` if that is not said."""
        # Packed against our wish, a file has another length than was announced, and a part of the
        # package is no part of the file.
        packed = is_packed(headers)
        self.total = None if packed else length
        self._validator = None if packed or self._distrusts_ranges else validator_of(headers)

    def goes_on(self, headers: Mapping[str, str], size: int) -> bool:
        """Whether an answer (206) is the rest of this very file after its first `size` bytes."""
        match = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if match is None or is_packed(headers) or self._is_other_version(headers):
            return False
        first, last, total = map(int, match.groups())
        if first != size or not first <= last < total or self.total not in {None, total}:
            return False
        self.total = total
        return True

    def _is_other_version(self, headers: Mapping[str, str]) -> bool:
        # A server that does not know If-Range may still name what it sends.
        known = self._validator or ""
        sent = headers.get("ETag" if known.startswith('"') else "Last-Modified")
        return sent is not None and sent.strip() != known

    def drop(self) -> None:
        """What has arrived is worth nothing: the next request asks for the whole."""
        self._validator = None

    def distrust(self) -> None:
        """This server does not give ranges as it should: it is not asked for any more."""
        self._distrusts_ranges = True
        self.drop()

    def advanced(self, size: int) -> bool:
        """Whether an attempt that ended at `size` bytes brought something that can be built on.

        Only what goes beyond everything before counts: a server that begins anew each time would
        seem to make progress for ever.
        """
        if self._validator is None or size <= self._furthest:
            return False
        self._furthest = size
        return True


def is_packed(headers: Mapping[str, str]) -> bool:
    """Whether a body is compressed."""
    return headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}


def is_ended_by_close(headers: Mapping[str, str]) -> bool:
    """Whether nothing but the end of the connection says where the body ends (RFC 9112, 6.3)."""
    return "Content-Length" not in headers and "Transfer-Encoding" not in headers


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What names this version of a file to the byte, for If-Range; `None` if nothing does."""
    tag = headers.get("ETag", "").strip()
    if _STRONG_TAG.fullmatch(tag):
        return tag
    # A client with any tag must not use the date instead.
    modified = headers.get("Last-Modified", "").strip()
    return modified if not tag and _is_strong_date(modified, headers.get("Date", "")) else None


def _is_strong_date(modified: str, sent: str) -> bool:
    """Whether the file had stood unchanged for a second when it was sent (RFC 9110, 8.8.2.2)."""
    try:
        age = parsedate_to_datetime(sent) - parsedate_to_datetime(modified)
    except (ValueError, TypeError, OverflowError):
        return False
    return modified.isprintable() and age.total_seconds() >= 1
