"""One thread that writes: what waits is committed together, and told to the event loop at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from apixo_async.errors import JournalError

_LOGGER = logging.getLogger("apixo_async")

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

PAUSE: Final = 0.2
PAUSE_MAX: Final = 5.0
GROUP_MAX: Final = 1_000
"""Pieces of work that share one transaction."""


@attrs.define(eq=False)
class _Piece:
    work: Work[Any]
    future: asyncio.Future[Any]
    keep_trying: bool


class Writer:
    """Does pieces of work in transactions, in the order they were given.

    A future is done when its work is on disk. Work may be run again after a rollback, so it must
    change nothing but the database. Work of `keep_trying` is tried until the disk takes it; other
    work fails with `JournalError` at the first error of the disk. `on_trouble` is called on the
    event loop when the disk begins to refuse what must be kept.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        *,
        on_commit: Callable[[], None],
        on_trouble: Callable[[JournalError], None],
    ) -> None:
        self._database = database
        self._on_commit = on_commit
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._is_closed = False
        self._give_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="apixo-journal", daemon=True)
        self._thread.start()

    def do(self, work: Work[T], *, keep_trying: bool = False) -> asyncio.Future[T]:
        """Takes work; its result comes when it is durable."""
        if self._is_closed:
            raise JournalError("the journal is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Piece(work, future, keep_trying))
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
        pause, is_last = PAUSE, False
        while not (is_last and not kept):
            group, is_last = self._next_group(kept, pause, is_last=is_last)
            if not group:
                continue
            kept = self._do_group(group)
            pause = min(pause * 2, PAUSE_MAX) if kept else PAUSE
            if kept and self._give_up.is_set():
                self._tell(
                    [(piece, None, JournalError("the journal was given up")) for piece in kept]
                )
                kept = []
        self._from_loop(self._set_ended)

    def _next_group(
        self, kept: list[_Piece], pause: float, *, is_last: bool
    ) -> tuple[list[_Piece], bool]:
        group = list(kept)
        if kept:
            self._give_up.wait(pause)
        elif not is_last:
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

    def _do_group(self, group: list[_Piece]) -> list[_Piece]:
        """Returns what must be tried again."""
        try:
            results = self._transaction(group)
        except sqlite3.Error as error:
            return self._refused(group, error)
        except Exception as error:  # noqa: BLE001  # whatever one piece of work raises is its own affair
            if len(group) == 1:
                self._tell([(group[0], None, error)])
                return []
            return [kept for piece in group for kept in self._do_group([piece])]
        self._on_commit()
        self._tell([(piece, result, None) for piece, result in zip(group, results, strict=True)])
        return []

    def _transaction(self, group: list[_Piece]) -> list[Any]:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            results = [piece.work(database) for piece in group]
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
        return results

    def _refused(self, group: list[_Piece], error: sqlite3.Error) -> list[_Piece]:
        kept = [piece for piece in group if piece.keep_trying]
        failure = JournalError(f"the journal cannot be written: {error}")
        self._tell([(piece, None, failure) for piece in group if not piece.keep_trying])
        self._from_loop(self._on_trouble, failure)
        return kept

    def _tell(self, told: list[tuple[_Piece, Any, Exception | None]]) -> None:
        if told:
            self._from_loop(_settle, told)

    def _from_loop(self, call: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
        with contextlib.suppress(RuntimeError):  # the loop was closed without waiting for us
            self._loop.call_soon_threadsafe(call, *arguments)

    def _set_ended(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


def _settle(told: list[tuple[_Piece, Any, Exception | None]]) -> None:
    for piece, result, error in told:
        if piece.future.done():
            continue  # whoever waited was cancelled
        if error is None:
            piece.future.set_result(result)
        else:
            piece.future.set_exception(error)
            piece.future.exception()  # nobody has to wait for it
