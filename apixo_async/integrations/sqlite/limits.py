"""The limits of an account in a file, shared by processes of one machine."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from apixo_async.errors import InvalidSettingError, StoreError
from apixo_async.integrations._member import member_settings
from apixo_async.integrations.sqlite._sharing import share
from apixo_async.limits.buckets import BucketSize
from apixo_async.limits.reservations import Line
from apixo_async.limits.roster import Kept, Roster, gone, renewed
from apixo_async.limits.sharing import LEASE_SECONDS, Grant

__all__ = ["SqliteLimits"]

TIMEOUT: Final = 5.0
"""Seconds that others may keep the file; each of them needs a few milliseconds."""
VERSION: Final = 1
_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS buckets (
    account TEXT PRIMARY KEY,
    changed_at REAL NOT NULL,
    ahead REAL NOT NULL,
    tokens REAL NOT NULL,
    requests INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS accounts (account TEXT PRIMARY KEY, seen_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    account TEXT NOT NULL,
    member TEXT NOT NULL,
    held INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    until REAL NOT NULL,
    has_left INTEGER NOT NULL,
    PRIMARY KEY (account, member)
);
PRAGMA user_version = {VERSION};
COMMIT;
"""
T = TypeVar("T")


class SqliteLimits:
    """A member of an account whose limits are in a file: pass it as `Gate(shared=...)`.

    It belongs to the event loop that first uses it. All that share the file are on one machine:
    SQLite's locks do not work over a network. Times are those of the machine's clock; where it
    steps back, leases and waits become neither longer nor shorter.

    Args:
        path: The file, which is made when it is missing, for its owner alone.
        account: Whose limits they are: all members that name the same one share them.
        lease: Seconds for which slots are kept for a member that gives no sign of life, from 1 to
            a week. Shorter than a task, the account may get more than its cap; longer, the slots
            of a process that died are idle.
        member: Its name among the others, which nobody else may have; `None` draws one.

    Attributes:
        path: The file, from the root on.
        account: As it was given.
        member: Its name.
        lease: Seconds.

    Raises:
        InvalidSettingError: There is no such directory, or another setting cannot be one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        account: str = "default",
        lease: float = LEASE_SECONDS,
        member: str | None = None,
    ) -> None:
        own = member_settings(account=account, lease=lease, member=member)
        self.account, self.member, self.lease = own.account, own.member, own.lease
        self.path = Path(path).absolute()
        if not self.path.parent.is_dir():
            raise InvalidSettingError(f"path: there is no directory {self.path.parent}")
        # One thread: a connection serves one at a time, and nobody else's thread waits for a lock.
        self._thread: ThreadPoolExecutor | None = None
        self._file = _File(self.path)

    async def reserve(self, requests: int, size: BucketSize) -> float:
        """Takes so many requests out of the bucket of all; seconds until they may leave.

        Args:
            requests: How many; they are taken whether or not they leave.
            size: The bucket as this member knows it.

        Raises:
            StoreError: The file cannot be used.
        """
        return await self._run(lambda: self._reserve(requests, size))

    async def slots(self, *, held: int, wanted: int, cap: int) -> Grant:
        """Tells what this member holds and has use for, renews its lease, and gives its slots.

        Args:
            held: Slots that it holds; they stay, whatever the cap.
            wanted: Slots that it has use for.
            cap: What the account has for all.

        Raises:
            StoreError: The file cannot be used.
        """

        def change(roster: Roster, now: float) -> Roster:
            return renewed(
                roster, self.member, held=held, wanted=wanted, cap=cap, lease=self.lease, now=now
            )

        roster, requests = await self._run(lambda: self._change(change))
        return Grant(cap=roster.members[self.member].granted, requests=requests)

    async def members(self, *, left: float = 0.0) -> Collection[str]:
        """Names of the members whose lease has not ended and who have not left.

        Args:
            left: Seconds that a member's lease must have left to count; one that lives renews it
                when two thirds of it are left.

        Raises:
            StoreError: The file cannot be used.
        """
        return await self._run(lambda: self._present(left))

    async def leave(self, *, held: int) -> None:
        """This member goes; what it held is kept for its tasks until its lease ends.

        Args:
            held: Slots whose tasks go on without it.

        Raises:
            StoreError: The file cannot be used; then its lease just ends.
        """

        def change(roster: Roster, now: float) -> Roster:
            return gone(roster, self.member, held=held, lease=self.lease, now=now)

        await self._run(lambda: self._change(change))

    async def aclose(self) -> None:
        """Closes the file; the next call opens it again."""
        if self._thread is not None:
            await self._run(self._file.close)
            self._thread.shutdown(wait=False)
            self._thread = None

    async def _run(self, call: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="apixo-limits")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # In the thread

    def _reserve(self, requests: int, size: BucketSize) -> float:
        with self._file.transaction() as database:
            found = database.execute(
                "SELECT changed_at, ahead, tokens, requests FROM buckets WHERE account = ?",
                (self.account,),
            ).fetchone()
            now = time.time()
            line = Line(changed_at=now) if found is None else _line(*found)
            line = line.joined(requests, size, now=now)
            database.execute(
                "REPLACE INTO buckets VALUES (?, ?, ?, ?, ?)",
                (self.account, line.changed_at, line.ahead, line.tokens, line.requests),
            )
        return line.ahead

    def _present(self, left: float) -> Collection[str]:
        with self._file.transaction() as database:
            now = time.time()
            return self._roster(database, now).at(now).present(left=left)

    def _change(self, change: Callable[[Roster, float], Roster]) -> tuple[Roster, int]:
        """Changes the members while nobody else does; also the requests of all so far."""
        with self._file.transaction() as database:
            now = time.time()
            roster = change(self._roster(database, now), now)
            database.execute("REPLACE INTO accounts VALUES (?, ?)", (self.account, now))
            database.execute("DELETE FROM members WHERE account = ?", (self.account,))
            database.executemany(
                "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?)",
                [_row(self.account, name, member) for name, member in roster.members.items()],
            )
            counted = database.execute(
                "SELECT requests FROM buckets WHERE account = ?", (self.account,)
            ).fetchone()
        return roster, counted[0] if counted else 0

    def _roster(self, database: sqlite3.Connection, now: float) -> Roster:
        seen = database.execute(
            "SELECT seen_at FROM accounts WHERE account = ?", (self.account,)
        ).fetchone()
        rows = database.execute(
            "SELECT member, held, wanted, granted, until, has_left FROM members WHERE account = ?",
            (self.account,),
        )
        members = {
            name: Kept(
                held=held, wanted=wanted, granted=granted, until=until, has_left=bool(has_left)
            )
            for name, held, wanted, granted, until, has_left in rows
        }
        return Roster(members=members, seen_at=seen[0] if seen else now)


class _File:
    """An SQLite file that is opened when it is first needed, and anew when it was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All of it is done, or nothing; nobody else writes meanwhile."""
        try:
            database = self._opened()
            database.execute("BEGIN IMMEDIATE")
            with database:
                yield database
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise StoreError(f"limits {self.path}: {error}") from error

    def close(self) -> None:
        """Closes it, if it is open."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _opened(self) -> sqlite3.Connection:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            # Made here, for its mode. One that is there is not opened beside SQLite, whose locks
            # fall with the first descriptor of the file that this process closes.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            status = self.path.stat()
        # Who goes on with a file that was moved away shares it with nobody.
        identity = (status.st_dev, status.st_ino)
        if self._database is None or identity != self._identity:
            self.close()
            self._database = self._connected()
            self._identity = identity
        return self._database

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=TIMEOUT, isolation_level=None)
        try:
            share(database, timeout=TIMEOUT)
            # A power cut ends all members; the few changes that it may take with it do not count.
            database.execute("PRAGMA synchronous = NORMAL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            self._check(version)
            if version < VERSION:
                database.executescript(_TABLES)
        except BaseException:
            database.close()
            raise
        return database

    def _check(self, version: int) -> None:
        if version > VERSION:
            raise StoreError(
                f"limits {self.path}: it is of version {version}, and this apixo-async knows "
                f"{VERSION}; update it"
            )


def _line(changed_at: float, ahead: float, tokens: float, requests: int) -> Line:
    return Line(changed_at=changed_at, ahead=ahead, tokens=tokens, requests=requests)


def _row(account: str, name: str, member: Kept) -> tuple[object, ...]:
    return (
        account,
        name,
        member.held,
        member.wanted,
        member.granted,
        member.until,
        member.has_left,
    )
