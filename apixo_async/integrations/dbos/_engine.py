"""DBOS as far as we need it: one engine per process, whose calls wait in threads of ours."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import re
import secrets
import socket
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from apixo_async.errors import ApixoError, ClientUsageError, StoreError

P = ParamSpec("P")
T = TypeVar("T")

NAME: Final = "apixo-async"
VERSION: Final = "1"
"""Of the workflow below, not of this package: DBOS gives a job only to workers of its version, so
another release must not change it unless the workflow's inputs change."""
THREADS: Final = 16
"""For calls that wait for the database."""
PAGE: Final = 500
"""Workflows that are resumed, or deleted, at a time."""
ACTIVE: Final = ("ENQUEUED", "DELAYED", "PENDING")
_ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_EXECUTOR_ID: Final = re.compile(r".+-[0-9]+-[0-9a-f]{8}")
_ALWAYS: Final = 1_000_000_000
"""Recoveries are never too many: the ledger, not a count, keeps a job from being paid twice."""

Carry = Callable[[str, str], Awaitable[str]]
"""Carries a job of an account; how it ended, in a word."""
_carriers: dict[str, tuple[asyncio.AbstractEventLoop, Carry]] = {}


@DBOS.workflow(name="apixo_async.generate", max_recovery_attempts=_ALWAYS)
async def generate(account: str, key: str) -> str:
    """One job. It has one step, which may be run again: what was submitted is in the ledger."""
    return await DBOS.run_step_async(
        {"name": "apixo_async.carry", "retries_allowed": False}, _carry, account, key
    )


async def _carry(account: str, key: str) -> str:
    """Has it carried on the event loop of the client, which is not that of DBOS."""
    loop, carry = _carriers[account]
    carried = asyncio.run_coroutine_threadsafe(_awaited(carry, account, key), loop)
    return await asyncio.wrap_future(carried)


async def _awaited(carry: Carry, account: str, key: str) -> str:
    return await carry(account, key)


def executor_id() -> str:
    """A name for this process that no other has, or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_executor_id(name: str) -> bool:
    """Whether a member of shared limits has a name as `executor_id` gives them."""
    return _EXECUTOR_ID.fullmatch(name) is not None


def queue_of(account: str) -> str:
    """The queue of one API key: its limits are those of the key."""
    return f"apixo-{account}"


def prefix_of(account: str, key: str) -> str:
    """What the ids of all workflows of a job begin with."""
    return f"{queue_of(account)}/{key}/"


class Engine:
    """DBOS in this process, from `launch` to `close`."""

    def __init__(self, url: str, executor: str) -> None:
        self._url = url
        self.executor = executor
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="apixo-dbos")

    async def call(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs what waits for the database in a thread, where no event loop runs."""
        context = contextvars.copy_context()
        bound = functools.partial(context.run, functools.partial(work, *args, **kwargs))
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, bound)
        except ApixoError:
            raise
        except Exception as error:
            # Of what SQLAlchemy says only the beginning: statements with their values come after.
            first = (str(error).splitlines() or [""])[0]
            raise StoreError(f"DBOS: {type(error).__name__}: {first}") from error

    # Life

    async def launch(
        self,
        queues: Mapping[str, Mapping[str, Any]],
        carry: Carry,
        *,
        works: bool,
        polling: float,
    ) -> None:
        """Starts DBOS here; with `works` it takes jobs from these queues, by account."""
        loop = asyncio.get_running_loop()
        if _carriers:
            raise ClientUsageError("DBOS runs once in a process: close the other DurableVeo first")
        _carriers.update(dict.fromkeys(queues, (loop, carry)))
        try:
            await self.call(self._launch, queues, works=works, polling=polling)
        except BaseException:
            await self.close()
            raise

    def _launch(
        self, queues: Mapping[str, Mapping[str, Any]], *, works: bool, polling: float
    ) -> None:
        if self._url.startswith("sqlite"):
            preset_wal(self._url)
        # What DBOS says about its own course is for its own logger, and not for a console.
        logging.getLogger("dbos").propagate = True
        config = DBOSConfig(
            name=NAME,
            system_database_url=self._url,
            application_version=VERSION,
            executor_id=self.executor,
            # What is stored is JSON: who can write to the database cannot run code here.
            serializer=DBOSPortableJSONSerializer(),
            max_executor_threads=2 * THREADS,
            console_log_level="CRITICAL",
        )
        DBOS(config=config)
        DBOS.listen_queues([queue_of(account) for account in queues] if works else [])
        DBOS.launch()
        for account, limits in queues.items():
            DBOS.register_queue(
                queue_of(account),
                polling_interval_sec=polling,
                on_conflict="always_update",
                **limits,
            )

    async def close(self) -> None:
        """Ends DBOS here; what it was carrying is carried by others, or at the next start."""
        try:
            await self.call(DBOS.destroy, workflow_completion_timeout_sec=0)
        finally:
            _carriers.clear()
            self._threads.shutdown(wait=False)

    # Jobs

    async def enqueue(self, account: str, key: str, turn: str) -> None:
        """Has a job carried by whoever is free; the same turn again is the same workflow."""
        await self.call(_enqueue, account, key, turn)

    async def active(self, account: str) -> set[str]:
        """Keys of the jobs that are in the queue or being carried."""
        found = await self.call(_listed, status=list(ACTIVE), queue_name=queue_of(account))
        cut = len(queue_of(account)) + 1
        return {flow.workflow_id[cut:].rpartition("/")[0] for flow in found}

    async def resume_of_the_dead(self, account: str, alive: Sequence[str]) -> int:
        """Puts back into the queue what executors were carrying that live no more; how many."""
        pending = await self.call(_listed, status="PENDING", queue_name=queue_of(account))
        ids = [flow.workflow_id for flow in pending if flow.executor_id not in alive]
        for first in range(0, len(ids), PAGE):
            await self.call(
                DBOS.resume_workflows, ids[first : first + PAGE], queue_name=queue_of(account)
            )
        return len(ids)

    async def purge(self, account: str, ended_before: datetime) -> int:
        """Deletes the history of workflows that ended before then; how many there were."""
        count = 0
        while found := await self.call(
            _listed,
            limit=PAGE,
            status=list(_ENDED),
            queue_name=queue_of(account),
            completed_before=ended_before.isoformat(),
        ):
            await self.call(DBOS.delete_workflows, [flow.workflow_id for flow in found])
            count += len(found)
        return count


def _enqueue(account: str, key: str, turn: str) -> None:
    with SetWorkflowID(prefix_of(account, key) + turn):
        DBOS.enqueue_workflow(queue_of(account), generate, account, key)


def _listed(**which: Any) -> list[Any]:  # noqa: ANN401  # as `list_workflows` takes them
    """All of them by one statement: where some end between two pages, others are on neither."""
    return list(DBOS.list_workflows(load_input=False, load_output=False, **which))


def preset_wal(url: str) -> None:
    """Readers and the writer do not wait for each other from then on; the file remembers it.

    DBOS leaves an SQLite file as it is, which is several times as slow.
    """
    path = Path(url.partition(":///")[2])
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        if is_new:
            path.chmod(0o600)
    finally:
        database.close()
