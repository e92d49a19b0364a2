"""The disk of a simulated process: SQLite's real files, written inline, copied when it dies."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from unittest import mock

from apixo_async.batch.journal import store, writer
from apixo_async.batch.journal.writer import Writer

T = TypeVar("T")

COMMIT_SECONDS: Final = 0.004
TORN: Final = 300
"""Bytes of a write that power loss cut short."""


class Process(Protocol):
    """What the disk has to know of who writes to it."""

    @property
    def is_dead(self) -> bool: ...
    @property
    def refuses(self) -> bool: ...
    def reached(self, moment: str) -> None: ...


class InlineWriter(Writer):
    """The journal's writer without its thread: the same transactions, as steps of the loop."""

    process: Process
    alive: list[InlineWriter]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._kept: list[Any] = []
        self._was_last = self._is_due = self._has_ended = False
        self._is_complete = True
        self._told_at = 0.0
        self.alive.append(self)

    def _run(self) -> None:
        """The thread has nothing to do."""

    def do(self, *arguments: Any, **keywords: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = super().do(*arguments, **keywords)
        self._wake(COMMIT_SECONDS)
        return future

    async def aclose(self) -> None:
        self._wake(COMMIT_SECONDS)
        await super().aclose()

    def bury(self) -> None:
        """Closes what a dead process left open."""
        if not self._has_ended:
            self._has_ended = True
            self._on_end(False)

    def _wake(self, seconds: float) -> None:
        if not self._is_due and not self._has_ended:
            self._is_due = True
            self._loop.call_later(seconds, self._pump)

    def _pump(self) -> None:
        self._is_due = False
        if self.process.is_dead:
            return
        has_work = self._kept or not self._queue.empty()
        if has_work:
            group, self._was_last = self._next_group(self._kept, 0.0, is_last=self._was_last)
            self._kept = self._do_in_order(writer._parts(group))
            if self._kept and self._give_up.is_set():
                self._kept, self._is_complete = [], False
        if self._kept:
            self._wake(writer.PAUSE)
        elif self._was_last:
            self._has_ended = True
            self._on_end(self._is_complete)
            self._from_loop(self._ended.set_result, None)
        elif not self._queue.empty():
            self._wake(COMMIT_SECONDS)

    def _transaction(self, group: list[Any]) -> list[Any]:
        if self.process.refuses:
            raise sqlite3.OperationalError("disk I/O error")
        results = super()._transaction(group)
        self.process.reached("commit")
        return results

    def _from_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        # What was committed is told a little later, in order: a process may die in between.
        self._told_at = max(self._told_at, self._loop.time() + COMMIT_SECONDS / 4)
        self._loop.call_at(self._told_at, self._tell_now, call, arguments)

    def _tell_now(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        call(*arguments)
        self.process.reached("told")


@contextmanager
def inline_journals(process: Process) -> Generator[None]:
    """Journals that are opened in this block write inline, for this process."""
    alive: list[InlineWriter] = []
    kind = type("InlineWriter", (InlineWriter,), {"process": process, "alive": alive})
    with mock.patch.object(store, "Writer", kind):
        try:
            yield
        finally:
            for one in alive:
                one.bury()


def left_behind(directory: Path, copy: Path, *, lost_power: bool, rng: random.Random) -> None:
    """What another process finds: committed transactions, and with bad luck a torn write.

    Locks end with their process, and so does the index of SQLite's log, which is made anew.
    """
    copy.mkdir()
    for file in directory.iterdir():
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, copy / file.name)
    if lost_power:
        for log in copy.glob("*-wal"):
            with log.open("ab") as end:
                end.write(rng.randbytes(rng.randrange(TORN)))
        for lock in copy.glob("*.lock"):
            if rng.random() < 0.5:  # it is not synced, because it only has to survive a process
                lock.unlink()
