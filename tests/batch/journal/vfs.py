"""A disk that fails: SQLite's own file system, whose writes are counted and refused on demand.

The library is the one that Python's `sqlite3` uses. The layout of the structures is part of
SQLite's stable interface (https://sqlite.org/c3ref/io_methods.html).
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable
from typing import Any, ClassVar, Final

IOERR_WRITE: Final = 10 | 3 << 8
IOERR_FSYNC: Final = 10 | 4 << 8
FULL: Final = 13

_METHODS: Final = 19  # the version and 18 functions, as far as version 3 of the structure goes
_WRITE, _TRUNCATE, _SYNC = 3, 4, 5

# The name is no `c_char_p`, which would be a copy: SQLite keeps the pointer.
_Open = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p
)
_Write = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _VFS(ctypes.Structure):
    _fields_: ClassVar = [  # type: ignore[mutable-override]  # as ctypes wants it
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("path_max", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
    ]


_FOR_LIFE: Final[list[object]] = []


class FailingDisk:
    """Asks `fails` before each write, truncation and sync; an error code is what SQLite gets.

    It stays for the life of the process, so it belongs into one that is made for it.
    """

    def __init__(self, fails: Callable[[str], int]) -> None:
        self._fails = fails
        self._changed: dict[int, Any] = {}
        self._kept: list[object] = []
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_VFS)
        vfs = library.sqlite3_vfs_find(None).contents
        self._open = _Open(vfs.open)
        mine = _Open(self._opened)
        self._kept.append(mine)
        # SQLite keeps addresses only: without this the garbage collector would take us from it.
        _FOR_LIFE.append(self)
        vfs.open = ctypes.cast(mine, ctypes.c_void_p).value

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        code: int = self._open(vfs, name, file, flags, out)
        pointer = ctypes.cast(file, ctypes.POINTER(ctypes.c_void_p))
        if code == 0 and pointer[0]:
            pointer[0] = self._methods(pointer[0])
        return code

    def _methods(self, known: int) -> int:
        if known not in self._changed:
            table = (ctypes.c_void_p * _METHODS)()
            ctypes.memmove(table, known, ctypes.sizeof(table))
            for place, kind, name in (
                (_WRITE, _Write, "write"),
                (_TRUNCATE, _Truncate, "truncate"),
                (_SYNC, _Sync, "sync"),
            ):
                table[place] = self._wrapped(kind, table[place] or 0, name)
            # Two threads may open files at once: the table that loses is in use all the same.
            self._kept.append(table)
            self._changed[known] = table
        return ctypes.addressof(self._changed[known])

    def _wrapped(self, kind: Any, address: int, name: str) -> int | None:  # noqa: ANN401  # a ctypes factory
        real = kind(address)
        wrapped = kind(lambda *values: self._fails(name) or real(*values))
        self._kept += [real, wrapped]
        return ctypes.cast(wrapped, ctypes.c_void_p).value
