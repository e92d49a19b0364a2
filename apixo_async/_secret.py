"""A string that does not show itself."""

from __future__ import annotations

import re
from typing import Final, NoReturn

MASK: Final = "***"
_MASK_BYTES: Final = MASK.encode()
_BACKSLASH: Final = ord("\\")
_AMPERSAND: Final = ord("&")


class Secret:
    """Holds the API key; repr, str, format and pickle never show it, `reveal()` does."""

    __slots__ = ("_bytes", "_pattern", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._bytes = value.encode()
        self._pattern: re.Pattern[bytes] | None = None

    def reveal(self) -> str:
        """The value itself, for the request header and for the constructor of a client."""
        return self._value

    def redact(self, text: str) -> str:
        """`text` with every occurrence of the secret masked."""
        return text.replace(self._value, MASK) if self._value else text

    def _escaped(self) -> re.Pattern[bytes]:
        """The secret as JSON or HTML may spell it, character by character."""
        if self._pattern is None:
            spelled = [
                rf"(?:\\?{re.escape(mark)}|\\u{ord(mark):04x}|&#{ord(mark)};|&#x0*{ord(mark):x};)"
                for mark in self._value
            ]
            self._pattern = re.compile("".join(spelled).encode(), re.IGNORECASE)
        return self._pattern

    def redact_bytes(self, body: bytes) -> bytes:
        """The same for bytes, also where JSON or HTML escapes hide it."""
        if not self._bytes:
            return body
        body = body.replace(self._bytes, _MASK_BYTES)
        # Every answer passes here: a search for one byte costs a tenth of one for two.
        if _BACKSLASH in body and (body.find(b"\\u") >= 0 or body.find(b"\\/") >= 0):
            return self._escaped().sub(_MASK_BYTES, body)
        if _AMPERSAND in body and body.find(b"&#") >= 0:
            return self._escaped().sub(_MASK_BYTES, body)
        return body

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        msg = "a secret is not pickled: build the client anew in the other process"
        raise TypeError(msg)
