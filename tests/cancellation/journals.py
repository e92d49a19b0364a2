"""A journal whose writer works on the event loop, and what a journal says afterwards."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from apixo_async.batch.journal import opening, store
from apixo_async.batch.journal.owner import is_in_use
from apixo_async.batch.journal.writer import Writer, _parts


class LoopWriter(Writer):
    """Does in one step of the loop what the thread would do: whatever waits, in one transaction."""

    seconds = 0.0
    """What writing takes."""

    def _run(self) -> None:
        """The thread has nothing to do."""

    def do(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:  # noqa: ANN401  # as its base
        future = super().do(*args, **kwargs)
        self._loop.call_later(self.seconds, self._turn)
        return future

    async def aclose(self) -> None:
        self._loop.call_later(self.seconds, self._turn)
        await super().aclose()

    def _turn(self) -> None:
        if self._queue.empty():
            return
        group, is_last = self._next_group([], 0.0, is_last=False)
        assert not self._do_in_order(_parts(group)), "the disk refuses nothing here"
        if is_last:
            self._on_end(True)
            self._from_loop(self._ended.set_result, None)


@contextmanager
def on_the_loop() -> Iterator[None]:
    """Journals are written on the loop, and not synced: no power is cut here."""

    def connect(path: Path) -> sqlite3.Connection:
        database = opening.connect(path)
        database.execute("PRAGMA synchronous = OFF")
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "Writer", LoopWriter)
        patch.setattr(store, "connect", connect)
        yield


def empty_journal(directory: Path) -> Path:
    """To be copied, as making one takes the longest."""
    path = directory / "empty.db"

    async def make() -> None:
        journal = await store.Journal.open(path)
        await journal.aclose()

    asyncio.run(make())
    return path


@contextmanager
def copy_of(path: Path) -> Iterator[Path]:
    """A journal of its own."""
    with TemporaryDirectory(dir=path.parent) as directory:
        yield Path(shutil.copy(path, directory))


def told(path: Path) -> Mapping[str, tuple[str, str | None]]:
    """State and task id of each job by its key, once the journal was given back."""
    assert not is_in_use(path), "the journal was not given back"
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT key, state, task_id FROM jobs").fetchall()
    return {key: (state, task_id) for key, state, task_id in rows}
