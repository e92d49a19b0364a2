"""Whether an MP4 may end where it does: where nobody says how long it is, the file itself does.

It is a row of boxes, each of which says its size (ISO/IEC 14496-12, 4.2).
"""

from __future__ import annotations

from typing import Final

_HEAD: Final = 8
_LONG_HEAD: Final = 16
_IS_LONG: Final = 1


def is_mp4(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return head[4:8] == b"ftyp"


class Boxes:
    """Follows the outermost boxes of a file as it comes; keeps 16 bytes at most."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        """How many bytes of the box that has begun are still to come."""
        self._is_known = True

    @property
    def are_cut(self) -> bool:
        """Whether the file surely ends within a box; never said of what has none."""
        return self._is_known and bool(self._left or self._head)

    def add(self, data: bytes) -> None:
        """Some more bytes of the file."""
        while data and self._is_known:
            skipped = min(self._left, len(data))
            self._left -= skipped
            wanted = self._wanted() - len(self._head)
            self._head += data[skipped : skipped + wanted] if not self._left else b""
            data = data[skipped + wanted :] if not self._left else b""
            if not self._left and len(self._head) == self._wanted():
                self._begin()

    def _wanted(self) -> int:
        is_long = self._head[:4] == _IS_LONG.to_bytes(4, "big")
        return _LONG_HEAD if is_long else _HEAD

    def _begin(self) -> None:
        size = int.from_bytes(self._head[:4], "big")
        if size == _IS_LONG:
            size = int.from_bytes(self._head[_HEAD:], "big")
        if size < len(self._head):
            self._is_known = False  # it goes on to the end (size 0), or these are no boxes
            return
        self._left, self._head = size - len(self._head), b""
