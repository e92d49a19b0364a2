"""The verbs: submit, status, wait, watch, generate, download, balance."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import attrs

from apixo_async._narrow import as_number, shown
from apixo_async._places import read_place
from apixo_async._transport import HttpTransport, Session, Timeouts, Transport
from apixo_async._wire import task_failure
from apixo_async.client.engine import Engine
from apixo_async.client.saving import SaveObserver, Saver
from apixo_async.client.settings import resolve_base_url, resolve_key
from apixo_async.downloads import SavedFile
from apixo_async.errors import InvalidRequestError, InvalidSettingError
from apixo_async.limits import GateStatistics, Limits
from apixo_async.polling import PollSchedule
from apixo_async.tasks import Task
from apixo_async.veo import REQUEST_TYPES, Request, TextToVideo, is_request
from apixo_async.webhooks import WebhookReceiver

_LOGGER = logging.getLogger("apixo_async")

DEFAULT_MODEL = TextToVideo.model


@attrs.frozen(kw_only=True)
class ClientStatistics:
    """A snapshot of a client: its gate, its unfinished tasks, its POSTs in flight."""

    gate: GateStatistics
    unfinished_tasks: int
    submits_in_flight: int


class ApixoClient:
    """An asynchronous client for APIXO that holds the account's limits over everything it does.

    `api_key` defaults to the environment's `APIXO_API_KEY`, `base_url` to `APIXO_BASE_URL` or the
    public API; it is accepted with and without `/api/v1`. `timeout` holds the seconds for whole
    HTTP calls. A `session` passed in is used for its connector and is never closed here.
    `transport` replaces HTTP altogether, for tests.

    With a `webhook`, every submit asks the API to call back: the end of a task is then known at
    once, looks are a slow safety net, and a submit whose answer was lost is found again by its
    callback. The receiver must be mounted or served by its owner.

    Results are not downloaded from private hosts (this machine, its network, a cloud's metadata)
    unless `allow_private_hosts`. `None` allows them exactly if `base_url` itself leads to such a
    host, an emulator or a gateway, whose results lie there as well.

    `storage_options` are what fsspec opens storages with where results go to a URL, as in pandas:
    `{"endpoint_url": ...}` for an S3 of your own. They are kept nowhere and shown nowhere. `None`
    leaves all to the environment and to fsspec's configuration.

    No I/O happens and nothing is opened before the first call. A client belongs to the event loop
    that first uses it. Use it as `async with`, or call `aclose()`.

    Raises `AuthenticationError` if no key is found and `InvalidSettingError` for a bad base URL.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        schedule: PollSchedule | None = None,
        timeout: Timeouts | None = None,
        session: Session | None = None,
        transport: Transport | None = None,
        webhook: WebhookReceiver | None = None,
        allow_private_hosts: bool | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        _check_types(limits=(limits, Limits), schedule=(schedule, PollSchedule))
        _check_types(timeout=(timeout, Timeouts), session=(session, Session))
        _check_types(allow_private_hosts=(allow_private_hosts, bool))
        _check_types(webhook=(webhook, WebhookReceiver), storage_options=(storage_options, Mapping))
        self.base_url = resolve_base_url(base_url)
        self._key = resolve_key(api_key)
        self._timeouts = timeout or Timeouts()
        self._session = session
        self._transport = transport
        self.engine = Engine(
            self._open_transport,
            limits=limits or Limits(),
            schedule=schedule or PollSchedule(),
            webhook=webhook,
        )
        self.saver = Saver(
            self.engine,
            allow_private_hosts=allow_private_hosts,
            api_url=self.base_url,
            storage_options=storage_options,
        )

    def _open_transport(self) -> Transport:
        if self._transport is not None:
            return self._transport
        return HttpTransport(
            self.base_url,
            self._key,
            timeouts=self._timeouts,
            session=self._session,
            user_agent=f"apixo-async/{_version()}",
        )

    async def submit(self, request: Request, *, callback_url: str | None = None) -> Task:
        """Starts a task and returns its first snapshot; this is what costs money.

        Waits for a slot among the unfinished tasks and for the request rate. The POST is repeated
        only after an error that shows it was not sent, and after 429. The slot stays taken until
        the task is seen to end by any call of this client, twice the schedule's deadline at most.

        If the caller is cancelled with the POST on its way, the answer is still awaited and the
        task id logged. `callback_url` asks the API to POST the result there, and to no `webhook`
        of this client. A submit whose answer was lost is called uncertain once the schedule's
        deadline is over in which its callback, with a `webhook`, or the API could tell its task; at
        once where neither a callback nor an id in a broken answer is there to ask about.

        Raises `SubmitUncertainError` when nobody can say whether a task was created,
        `NotSentError` when the host cannot be reached, an `APIError` when the API refused.
        """
        _check_request(request)
        _check_callback_url(callback_url)
        lease = await self.engine.lease()
        callbacks = self.engine.callbacks if callback_url is None else None
        ticket = None if callbacks is None else callbacks.ticket()
        return await self.engine.submit(
            request, lease=lease, callback_url=callback_url, ticket=ticket
        )

    async def status(self, task: Task | str, *, model: str = DEFAULT_MODEL) -> Task:
        """One status call now. `model` counts only beside a bare id; it must be the one submitted.

        Raises `NotFoundError` for an unknown task, other `APIError`s, `TransportError` or
        `UnexpectedAnswerError`; none of them says anything about the task itself.
        """
        if isinstance(task, Task):
            return await self.engine.look(task.id, task.model)
        return await self.engine.look(_task_id(task), model)

    async def wait(
        self,
        task: Task | str,
        *,
        model: str = DEFAULT_MODEL,
        timeout: float | None = None,
        schedule: PollSchedule | None = None,
    ) -> Task:
        """Looks at a task on schedule until it ends; returns the successful snapshot.

        `timeout` is the total wall time in seconds of this call, by default the schedule's
        deadline (1,800 s). Failed looks are not fatal: they wait for the next one.

        Raises `TaskFailedError` when the task failed, `TaskTimeoutError` with the task when time
        is up (it goes on and can be waited for again), `UnexpectedAnswerError` for a success
        without a URL, `NotFoundError` when the API goes on denying the id.
        """
        plan = schedule or self.engine.schedule
        ended = await self.engine.wait(
            _as_task(task, model), schedule=plan, timeout=_timeout(timeout, plan)
        )
        if not ended.has_succeeded:
            raise task_failure(ended)
        return ended

    async def watch(
        self,
        task: Task | str,
        *,
        model: str = DEFAULT_MODEL,
        timeout: float | None = None,
        schedule: PollSchedule | None = None,
    ) -> AsyncIterator[Task]:
        """Yields one snapshot per change of state, the terminal one last, failed or not.

        Times out and raises as `wait` does, but a failed task is a snapshot here.
        """
        plan = schedule or self.engine.schedule
        seconds = _timeout(timeout, plan)
        async for snapshot in self.engine.changes(
            _as_task(task, model), schedule=plan, timeout=seconds
        ):
            yield snapshot

    async def generate(
        self,
        request: Request,
        *,
        timeout: float | None = None,
        schedule: PollSchedule | None = None,
    ) -> Task:
        """`submit`, then `wait`: returns the successful snapshot with its `urls`.

        `timeout` counts from the moment the task is accepted, so that standing in line for a slot
        does not use it up. Raises what `submit` and `wait` raise.
        """
        _timeout(timeout, schedule or self.engine.schedule)
        task = await self.submit(request)
        try:
            return await self.wait(task, timeout=timeout, schedule=schedule)
        except asyncio.CancelledError:
            _LOGGER.warning(
                "task %s goes on though its caller was cancelled; wait for it by its id",
                task.id,
                extra={"task_id": task.id, "model": task.model},
            )
            raise

    @overload
    async def download(
        self,
        task: Task,
        directory: PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]: ...

    @overload
    async def download(
        self, task: Task, directory: str, *, name: str | None = None, overwrite: bool = False
    ) -> list[Path | str]: ...

    async def download(
        self,
        task: Task,
        directory: str | PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
    ) -> Sequence[Path | str]:
        """Saves all results of a task; returns their paths, or their URLs.

        `directory` is one, or as text the URL of a storage that fsspec knows, such as
        `s3://bucket/prefix`; docs/saving.md tells what that needs, and what it promises.

        Files are named by `name` (default: the task id), never by URL, with a suffix that follows
        the content. Existing files are kept unless `overwrite`: the new one gets the next free
        name. The API key is not sent. A file that has gone is looked for once more where a fresh
        status call says. Raises `DownloadError`; then the task is still done and paid, and
        downloading again is enough.
        """
        return [
            file.place for file in await self.save(task, directory, name=name, overwrite=overwrite)
        ]

    async def save(
        self,
        task: Task,
        directory: str | PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        only: Collection[int] | None = None,
        observer: SaveObserver | None = None,
    ) -> list[SavedFile]:
        """As `download`, with size (bytes) and SHA-256 (hex) of each file.

        `only` takes results by their index, from 0; `None` takes all. `observer` is told of each
        file before and after it gets its name.
        """
        return await self.saver.save(
            task,
            read_place(directory, name="directory"),
            name=name,
            overwrite=overwrite,
            only=only,
            observer=observer,
        )

    async def balance(self) -> float:
        """The USD left on this key."""
        return await self.engine.balance()

    def statistics(self) -> ClientStatistics:
        """What this client is doing at this moment; call it from the client's event loop."""
        return ClientStatistics(
            gate=self.engine.gate.statistics(),
            unfinished_tasks=len(self.engine.tracker),
            submits_in_flight=self.engine.submits_in_flight,
        )

    async def aclose(self) -> None:
        """Ends all waiting with `ClientUsageError`, then closes what was opened.

        POSTs in flight are answered first (`Timeouts.submit` and a few looks at most); nothing new
        is sent. Cancelled, it cuts them: whoever waits for one gets `SubmitUncertainError`. May be
        called twice. Tasks go on at the server.

        Belongs to the client's event loop, as all else does, and raises `ClientUsageError` on
        another one while that runs. Once it has ended, what it left is closed, and the log names
        the tasks that go on.
        """
        self.engine.check_loop()
        try:
            await self.engine.aclose()
        finally:
            await self.saver.aclose()

    async def __aenter__(self) -> Self:
        self.engine.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        engine = getattr(self, "engine", None)
        if engine is not None and engine.is_open:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"<ApixoClient {self.base_url} {self.engine.gate.slots!r}>"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # slow to import

    try:
        return version("apixo-async")
    except PackageNotFoundError:
        return "unknown"


def _check_types(**settings: tuple[object, type]) -> None:
    for name, (value, expected) in settings.items():
        if value is not None and not isinstance(value, expected):
            msg = f"{name} must be a {expected.__name__}, got {type(value).__name__}"
            raise InvalidSettingError(msg)


def _as_task(task: object, model: str) -> Task:
    return task if isinstance(task, Task) else Task(id=_task_id(task), model=model)


def _task_id(task: object) -> str:
    if isinstance(task, str) and (task_id := task.strip()) and task_id.isprintable():
        return task_id
    raise InvalidRequestError("task", [("id", f"must be a Task or its id, got {shown(task)}")])


def _timeout(timeout: float | None, schedule: PollSchedule) -> float:
    if timeout is None:
        return schedule.deadline
    if not as_number(timeout) > 0:
        msg = f"timeout must be above 0 seconds, got {shown(timeout)}; None means the schedule's"
        raise InvalidSettingError(msg)
    return timeout


def _check_request(request: object) -> None:
    if not is_request(request):
        names = ", ".join(cls.__name__ for cls in REQUEST_TYPES)
        msg = f"expected one of {names}, got {type(request).__name__}"
        raise TypeError(msg)


def _check_callback_url(url: str | None) -> None:
    given: object = url  # the annotation is the caller's promise, which may be broken
    is_url = isinstance(given, str) and given.lower().startswith(("https://", "http://"))
    if given is not None and not is_url:
        rule = f"must be a public http(s) URL, got {shown(given)}"
        raise InvalidRequestError("submit", [("callback_url", rule)])
