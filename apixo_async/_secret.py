"""A string that does not show itself."""

from __future__ import annotations

from typing import Final, NoReturn

MASK: Final = "***"


class Secret:
    """Holds the API key; repr, str, format and pickle never show it, `reveal()` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; called in one place, where the request header is built."""
        return self._value

    def redact(self, text: str) -> str:
        """`text` with every occurrence of the secret masked."""
        return text.replace(self._value, MASK) if self._value else text

    def redact_bytes(self, body: bytes) -> bytes:
        """The same for bytes."""
        return body.replace(self._value.encode(), MASK.encode()) if self._value else body

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        msg = "a secret is not pickled: build the client anew in the other process"
        raise TypeError(msg)
