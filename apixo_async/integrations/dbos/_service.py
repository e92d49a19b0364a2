"""`DurableVeo`: durable generations on DBOS."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from apixo_async._narrow import shown
from apixo_async._wire import request_from_row
from apixo_async.batch import events
from apixo_async.batch.journal import ENDED, JobState
from apixo_async.batch.outcomes import Job, Outcome, OutcomeStatus, StopReason
from apixo_async.errors import ApixoError, ClientUsageError, InvalidSettingError
from apixo_async.integrations.dbos._accounts import Account, accounts_of, check_url, open_account
from apixo_async.integrations.dbos._caring import care_for
from apixo_async.integrations.dbos._engine import Engine, executor_id
from apixo_async.integrations.dbos._following import DurableJob, followed
from apixo_async.integrations.dbos._queues import queue_settings
from apixo_async.limits import Limits
from apixo_async.veo import Request

LEASE: Final = 60.0
"""Seconds after which a replica that gives no sign of life is taken for dead. A wrong verdict costs
nothing but a look: the ledger, not the lease, keeps a job from being paid twice."""
POLLING: Final = 1.0
"""Seconds between looks of DBOS into its queue; a task takes two minutes."""
LEAVE_AFTER: Final = 60.0
"""Seconds after which a job goes back into the queue that this replica cannot submit, so that one
that reaches no host does not keep the jobs of all."""
FIRST_TURN: Final = "1"
KEEP: Final = timedelta(days=15)
"""As long as a result can be downloaded (Veo 3.1 page, tips)."""


class DurableVeo:
    """Generations that outlive processes: a queue on DBOS, carried by any number of replicas.

    Each replica runs `async with DurableVeo(...)` with the same database; jobs are carried by
    whoever has room. A job is submitted at most once by all of them together, a replica that dies
    loses nothing, and both limits of the account hold over all. DBOS runs once in a process, so
    there is one of these at a time.

    Args:
        database_url: `postgresql://user:password@host/database` for any number of machines, or
            `sqlite:///veo.db` for one, with no server. What is missing there is made: the tables
            of DBOS in schema `dbos`, ours in schema `apixo`, or two files beside the one of DBOS.
        api_key: The key; `None` takes `APIXO_API_KEY`. Of several, a mapping from the names of
            accounts to their keys: each has a queue and limits of its own. A key is stored nowhere.
        max_concurrent: Unfinished tasks of one key over all replicas; `None` is the documented
            1,000.
        requests_per_minute: Requests of one key over all replicas; `None` is the documented 10,000.
        max_starts_per_minute: Jobs of one key that are taken from the queue in a minute; `None` is
            what its requests have room for.
        lease: Seconds after which a replica that gives no sign of life is taken for dead, and its
            jobs are carried by others.
        works: Whether this process carries jobs; without, it enqueues and looks.
        on_event: Called with every event of a job that this process carries (see
            `apixo_async.batch.events`).
        options: For `ApixoClient`: `base_url`, `schedule`, `timeout`, `webhook` and others. A
            webhook's `inbox` should be one that all replicas share, so that a callback that any of
            them receives reaches the job.

    Raises:
        InvalidSettingError: A setting cannot be one; the message names it.
        AuthenticationError: There is no key.
    """

    def __init__(
        self,
        database_url: str = "sqlite:///veo.db",
        *,
        api_key: str | Mapping[str, str | None] | None = None,
        max_concurrent: int | None = None,
        requests_per_minute: int | None = None,
        max_starts_per_minute: int | None = None,
        lease: float = LEASE,
        works: bool = True,
        on_event: Callable[[events.Event], object] | None = None,
        **options: Any,  # noqa: ANN401  # as the client takes them
    ) -> None:
        url = check_url(database_url)
        given = {"concurrent_tasks": max_concurrent, "requests_per_minute": requests_per_minute}
        self._limits = Limits(**{name: n for name, n in given.items() if n is not None})
        self._queue = queue_settings(self._limits, max_starts_per_minute)
        self._engine = Engine(url, executor_id())
        self._works = works
        self._lease = lease
        self._accounts = {
            name: open_account(
                name,
                url,
                key,
                limits=self._limits,
                member=self._engine.executor,
                lease=lease,
                on_event=on_event,
                options=options,
            )
            for name, key in accounts_of(api_key).items()
        }
        self._caring: set[asyncio.Task[None]] = set()
        self._is_open = False

    # Life

    async def __aenter__(self) -> Self:
        """Connects, starts DBOS, and begins to carry jobs.

        Raises:
            StoreError: The database cannot be used.
            ClientUsageError: DBOS runs in this process already.
        """
        try:
            for account in self._accounts.values():
                await account.open(works=self._works)
            await self._engine.launch(
                dict.fromkeys(self._accounts, self._queue),
                self._carry,
                works=self._works,
                polling=POLLING,
            )
        except BaseException:
            await self._close()
            raise
        self._is_open = True
        if self._works:
            self._caring = {
                asyncio.create_task(care_for(account, self._engine, lease=self._lease))
                for account in self._accounts.values()
            }
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves: POSTs in flight are answered and recorded, and the jobs go to other replicas."""
        self._is_open = False
        for caring in self._caring:
            caring.cancel()
        await asyncio.gather(*self._caring, return_exceptions=True)
        try:
            await self._engine.close()
        finally:
            await self._close()

    async def _close(self) -> None:
        closing = [account.aclose() for account in self._accounts.values()]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _carry(self, account: str, key: str) -> str:
        outcome = await self._accounts[account].jobs.carry(key, leave_after=LEAVE_AFTER)
        if outcome.status is OutcomeStatus.NOT_STARTED:
            await self._engine.enqueue(account, key, secrets.token_hex(4))
        return outcome.status.value

    async def serve(self) -> None:
        """Carries jobs until it is cancelled; for a process that does nothing else."""
        self._check_open()
        await asyncio.get_running_loop().create_future()

    # Jobs

    async def enqueue(
        self,
        key: str,
        request: Request | None = None,
        *,
        account: str | None = None,
        metadata: Mapping[str, object] | None = None,
        **fields: Any,  # noqa: ANN401  # as the API has them
    ) -> DurableJob:
        """Records a job and puts it into the queue; from then on it is carried, whatever happens.

        The same key again is the same job, which is paid once. If its task was not seen to end
        before the deadline of the schedule, that waits for it once more.

        Args:
            key: Its name: printable text of 1 to 200 characters.
            request: What to generate. Without it, `fields` say so in the API's own names: `prompt`,
                `mode`, `image_urls` and so on, as in a row of a batch's input.
            account: Whose key pays; `None` where there is one.
            metadata: JSON that is carried along to the outcome.
            fields: See `request`.

        Raises:
            InvalidRequestError: The request, the key or the metadata cannot be one, or the key was
                used for another request. Nothing was recorded.
            InvalidSettingError: There is no such account, or both `request` and `fields` were said.
            StoreError: The database is away. Do it again: nothing happens twice.
        """
        self._check_open()
        owner = self._account(account)
        if request is None:
            request = request_from_row(fields)
        elif fields:
            raise InvalidSettingError(f"say request or {min(fields)}, not both")
        entry = await owner.jobs.add(Job(request, key=key, metadata=metadata or {}))
        if entry.state not in ENDED:
            await self._engine.enqueue(owner.name, key, FIRST_TURN)
        if owner.jobs.is_overdue(entry) and key not in await self._engine.active(owner.name):
            await self._engine.enqueue(owner.name, key, secrets.token_hex(4))
        return DurableJob(key, owner.name, entry.number)

    async def state(self, key: str, *, account: str | None = None) -> JobState | None:
        """Where a job stands by the record, in any process; `None` if there is no such job.

        Args:
            key: Its name.
            account: Whose it is; `None` where there is one.

        Raises:
            StoreError: The database is away.
        """
        return await self._account(account).jobs.state(key)

    async def outcome(self, key: str, *, account: str | None = None) -> Outcome | None:
        """How a job would have ended if it ended now; `None` if there is no such job.

        One that waits is not started, one that is being sent is uncertain, one whose task runs is
        timed out: `state` tells them from those that nobody carries any more.

        Args:
            key: Its name.
            account: Whose it is; `None` where there is one.

        Raises:
            StoreError: The database is away.
        """
        return await self._account(account).jobs.outcome(key)

    def as_completed(self, jobs: Iterable[DurableJob]) -> AsyncGenerator[Outcome]:
        """The outcomes of these jobs, each when it is there, whoever carries them.

        What was enqueued by an earlier process is enqueued again with the same key first: that
        returns the same job.

        Args:
            jobs: What `enqueue` returned.

        Raises:
            AuthenticationError: The key is refused; so with every error that stops all submits of
                this process until somebody does something. The jobs stay in the queue.
            StoreError: The database was away for a minute. Begin again with what is left.
        """
        waiting = {(job.account, job.number): job for job in jobs}
        return followed(waiting, self._engine, account=self._opened)

    # What people decide

    async def uncertain(self) -> list[Outcome]:
        """Jobs of which nobody can say whether they have a task; each waits for `settle`.

        Raises:
            StoreError: The database is away.
        """
        found: list[Outcome] = []
        for owner in self._accounts.values():
            found += [outcome async for outcome in owner.jobs.uncertain()]
        return found

    async def settle(
        self,
        key: str,
        *,
        task_id: str | None = None,
        resubmit: bool = False,
        abandon: bool = False,
        account: str | None = None,
    ) -> None:
        """Records a decision about an uncertain job, and has it carried on.

        Args:
            key: Its name.
            task_id: Its task, as your account's history tells it: that is waited for.
            resubmit: Send it again. If its first task exists, it is paid twice.
            abandon: Leave it at that.
            account: Whose it is; `None` where there is one.

        Raises:
            ValueError: Not exactly one of the three was said.
            JournalError: There is no such job, or that cannot be decided about it as it stands.
        """
        self._check_open()
        owner = self._account(account)
        await owner.jobs.settle(key, task_id=task_id, resubmit=resubmit, abandon=abandon)
        if not abandon:
            await self._engine.enqueue(owner.name, key, secrets.token_hex(4))

    async def purge(self, older_than: timedelta = KEEP) -> int:
        """Deletes jobs that ended longer ago, here and in the history of DBOS; returns how many.

        Their keys are new keys then. What has not ended is never deleted.

        Args:
            older_than: Since their end; by default 15 days, for which results are kept.

        Raises:
            StoreError: The database is away.
        """
        self._check_open()
        before = datetime.now(UTC) - older_than
        count = 0
        for owner in self._accounts.values():
            count += await owner.ledger.rows.purge(before)
            await self._engine.purge(owner.name, before)
        return count

    @property
    def stopped(self) -> Mapping[str, tuple[StopReason, ApixoError | None]]:
        """Accounts for which this process submits nothing at the moment, and why."""
        reasons = {owner.name: owner.jobs.stopped for owner in self._accounts.values()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def _opened(self, name: str) -> Account:
        self._check_open()
        return self._account(name)

    def _account(self, name: str | None) -> Account:
        if name is None and len(self._accounts) == 1:
            return next(iter(self._accounts.values()))
        try:
            return self._accounts[name or ""]
        except KeyError:
            names = ", ".join(sorted(self._accounts))
            raise InvalidSettingError(
                f"account must be one of {names}, got {shown(name)}"
            ) from None

    def _check_open(self) -> None:
        if not self._is_open:
            raise ClientUsageError("this DurableVeo is not open: use it in `async with`")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self._accounts)} {self._engine.executor}>"
