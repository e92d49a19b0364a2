"""One thread that writes: what waits is committed together, and told to the event loop at once."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

import attrs

from apixo_async.errors import JournalError

T = TypeVar("T")
Work = Callable[[], T]

PAUSE: Final = 0.2
PAUSE_MAX: Final = 5.0
GROUP_MAX: Final = 1_000
"""Pieces of work that share one transaction."""

_OWN_FAULTS: Final = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    UnicodeError,
    OverflowError,
)
"""What a value raises that SQLite cannot take: trying again would not help."""


@attrs.define(eq=False)
class _Piece:
    work: Work[Any]
    future: asyncio.Future[Any]
    keep_trying: bool
    is_alone: bool
    is_optional: bool
    when_kept: Callable[[], None] | None


_Told = tuple[_Piece, Any, Exception | None]


class Transactions(Protocol):
    """Told where transactions begin and end, in the writer's thread."""

    def begin(self) -> None:
        """Nothing counts that was written since the last commit."""

    def commit(self) -> None:
        """All that was written since `begin` is on disk."""


class Writer:
    """Does pieces of work in transactions, in the order they were given.

    A future is done when its work is on disk. Work may be run again after a rollback, so it must
    change nothing but the database. Work of `keep_trying` is tried until the disk takes it; other
    work fails with `JournalError` at the first error of the disk. `on_trouble` is called on the
    event loop each time that the disk refuses something. `on_end` is called in the thread at its
    end, told whether everything was written.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        *,
        transactions: Transactions,
        on_trouble: Callable[[JournalError], None],
        on_end: Callable[[bool], None],
    ) -> None:
        self._database = database
        self._transactions = transactions
        self._on_trouble = on_trouble
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._is_closed = False
        self._refusal = JournalError("the journal cannot be written")
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="apixo-journal", daemon=True)
        self._thread.start()

    def do(
        self,
        work: Work[T],
        *,
        keep_trying: bool = False,
        is_alone: bool = False,
        is_optional: bool = False,
        when_kept: Callable[[], None] | None = None,
    ) -> asyncio.Future[T]:
        """Takes work; its result comes when it is durable.

        Work that `is_alone` shares its transaction with no other, so it is never run twice. Work
        that `is_optional` neither, and that the disk refuses it is no trouble.
        `when_kept` is called on the event loop once it is durable, also when nobody waits any more.
        """
        if self._is_closed:
            raise JournalError("the journal is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Piece(work, future, keep_trying, is_alone, is_optional, when_kept))
        return future

    async def aclose(self) -> None:
        """Writes what waits, then ends; cancelled, it gives up what the disk refuses."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        try:
            await asyncio.shield(self._ended)
        except asyncio.CancelledError:
            self._give_up.set()
            raise

    # In the thread

    def _run(self) -> None:
        kept: list[_Piece] = []
        pause, is_last, is_complete = PAUSE, False, True
        while not (is_last and not kept):
            group, is_last = self._next_group(kept, pause, is_last=is_last)
            kept = self._do_in_order(_parts(group))
            pause = min(pause * 2, PAUSE_MAX) if kept else PAUSE
            if kept and self._give_up.is_set():
                given_up = JournalError("the journal was given up before the disk took this")
                self._tell([(piece, None, given_up) for piece in kept])
                kept, is_complete = [], False
        self._on_end(is_complete)
        self._from_loop(self._ended.set_result, None)

    def _next_group(
        self, kept: list[_Piece], pause: float, *, is_last: bool
    ) -> tuple[list[_Piece], bool]:
        group = list(kept)
        if kept:
            self._give_up.wait(pause)
        else:  # there is more to come: after the last piece nobody asks without any that is kept
            piece = self._queue.get()
            if piece is None:
                return group, True
            group.append(piece)
        while len(group) < GROUP_MAX:
            try:
                piece = self._queue.get_nowait()
            except queue.Empty:
                break
            if piece is None:
                is_last = True
            else:
                group.append(piece)
        return group, is_last

    def _do_in_order(self, parts: Iterable[list[_Piece]]) -> list[_Piece]:
        """Returns what must be tried again, before which nothing later may be written."""
        kept: list[_Piece] = []
        for part in parts:
            kept += self._refused(part) if kept else self._do_group(part)
        return kept

    def _do_group(self, group: list[_Piece]) -> list[_Piece]:
        try:
            results = self._transaction(group)
        except Exception as error:  # noqa: BLE001  # whatever one piece of work raises is its own affair
            if _is_refusal(error):
                self._refusal = JournalError(f"the journal cannot be written: {error}")
                return self._refused(group)
            if len(group) == 1:
                self._tell([(group[0], None, _named(error))])
                return []
            # Halves, so that one faulty piece among many costs few transactions more.
            half = len(group) // 2
            return self._do_in_order([group[:half], group[half:]])
        self._transactions.commit()
        self._tell([(piece, result, None) for piece, result in zip(group, results, strict=True)])
        return []

    def _transaction(self, group: list[_Piece]) -> list[Any]:
        database = self._database
        if database.in_transaction:  # the last rollback failed as well
            database.execute("ROLLBACK")
        self._transactions.begin()
        database.execute("BEGIN IMMEDIATE")
        try:
            results = [piece.work() for piece in group]
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
        return results

    def _refused(self, group: list[_Piece]) -> list[_Piece]:
        failure = self._refusal
        self._tell([(piece, None, failure) for piece in group if not piece.keep_trying])
        if not all(piece.is_optional for piece in group):
            self._from_loop(self._on_trouble, failure)
        return [piece for piece in group if piece.keep_trying]

    def _tell(self, told: list[_Told]) -> None:
        if told:
            self._from_loop(_settle, told)

    def _from_loop(self, call: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401  # of any call
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for us
            self._loop.call_soon_threadsafe(call, *arguments)


def _parts(group: list[_Piece]) -> Iterator[list[_Piece]]:
    part: list[_Piece] = []
    for piece in group:
        if piece.is_alone or piece.is_optional:
            yield from filter(None, (part, [piece]))
            part = []
        else:
            part.append(piece)
    if part:
        yield part


def _is_refusal(error: Exception) -> bool:
    """Whether it was the disk (or the memory), so that the same work may succeed later."""
    return isinstance(error, (sqlite3.Error, MemoryError)) and not isinstance(error, _OWN_FAULTS)


def _named(error: Exception) -> Exception:
    if isinstance(error, _OWN_FAULTS):
        return JournalError(f"the journal cannot hold this: {error}")
    return error


def _settle(told: list[_Told]) -> None:
    for piece, result, error in told:
        if error is None and piece.when_kept is not None:
            piece.when_kept()
        if piece.future.done():
            continue  # whoever waited was cancelled
        if error is None:
            piece.future.set_result(result)
        else:
            piece.future.set_exception(error)
            piece.future.exception()  # nobody has to wait for it
