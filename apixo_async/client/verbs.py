"""The verbs: submit, status, wait, watch, generate, download, balance."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import attrs

from apixo_async._hooks import Hook
from apixo_async._logs import LOGGER, fields
from apixo_async._narrow import as_number, shown
from apixo_async._places import read_place
from apixo_async._transport import HttpTransport, Session, Timeouts, Transport
from apixo_async._wire import task_failure
from apixo_async.client.engine import Engine
from apixo_async.client.saving import SaveObserver, Saver
from apixo_async.client.settings import resolve_base_url, resolve_key
from apixo_async.downloads import SavedFile
from apixo_async.errors import InvalidRequestError, InvalidSettingError
from apixo_async.events import ClientEvent
from apixo_async.limits import Gate, GateStatistics, Limits
from apixo_async.polling import PollSchedule
from apixo_async.tasks import Task
from apixo_async.veo import REQUEST_TYPES, Request, TextToVideo, is_request
from apixo_async.webhooks import WebhookReceiver

DEFAULT_MODEL = TextToVideo.model


@attrs.frozen(kw_only=True)
class ClientStatistics:
    """A snapshot of a client."""

    gate: GateStatistics
    """What the gate holds and has found."""
    unfinished_tasks: int
    """Tasks that this client knows of and has not seen end."""
    submits_in_flight: int
    """POSTs that are on their way."""


class ApixoClient:
    """An asynchronous client for APIXO that holds the account's limits over everything it does.

    No I/O happens and nothing is opened before the first call. A client belongs to the event loop
    that first uses it. Use it as `async with`, or call `aclose()`.

    Args:
        api_key: The account's key; `None` takes it from the environment's `APIXO_API_KEY`. It is
            sent to the API as "Authorization: Bearer" (Veo 3.1 page, authentication), and nowhere
            else.
        base_url: Where the API is, with or without `/api/v1`; `None` takes `APIXO_BASE_URL` or
            the public API.
        limits: What the account allows; `None` is the documented limits.
        gate: Holds limits together with other processes, in place of `limits`: a gate of your own,
            for this client alone, which closes it. `None` makes one of `limits`.
        schedule: When to look at a task; `None` is the documented schedule.
        timeout: The seconds for whole HTTP calls; `None` is 60 for submits and 30 for others.
        session: An aiohttp session of your own, of which the connector is used. It is never
            closed here. `None` opens one with the first call.
        transport: Replaces HTTP altogether, for tests.
        webhook: A receiver, by which every submit asks the API to call back: the end of a task is
            then known at once, looks are a slow safety net, and a submit whose answer was lost is
            found again by its callback. Its owner mounts or serves it.
        allow_private_hosts: Whether results are downloaded from private hosts, too: this machine,
            its network, a cloud's metadata. `None` allows them exactly if `base_url` itself leads
            to such a host, an emulator or a gateway, whose results lie there as well.
        storage_options: What fsspec opens storages with where results go to a URL, as in pandas:
            `{"endpoint_url": ...}` for an S3 of your own. They are kept nowhere and shown nowhere.
            `None` leaves all to the environment and to fsspec's configuration.
        on_event: Called with every step of every submit, task and request, on the event loop; keep
            it short (see `apixo_async.events`). What it returns is not looked at, its errors are
            logged and change nothing, and `SystemExit` and its like end the event loop.

    Attributes:
        base_url: Where the API is, with `/api/v1`.
        timeouts: The seconds for whole HTTP calls.

    Raises:
        AuthenticationError: There is no key.
        InvalidSettingError: The base URL cannot be one, a setting has the wrong type, `limits` and
            `gate` are both given, or `gate` is another client's.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        gate: Gate | None = None,
        schedule: PollSchedule | None = None,
        timeout: Timeouts | None = None,
        session: Session | None = None,
        transport: Transport | None = None,
        webhook: WebhookReceiver | None = None,
        allow_private_hosts: bool | None = None,
        on_event: Callable[[ClientEvent], object] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        _check_types(limits=(limits, Limits), schedule=(schedule, PollSchedule))
        _check_types(gate=(gate, Gate))
        if limits is not None and gate is not None:
            raise InvalidSettingError("limits must not be given beside gate, which has its own")
        _check_types(timeout=(timeout, Timeouts), session=(session, Session))
        _check_types(allow_private_hosts=(allow_private_hosts, bool))
        _check_types(webhook=(webhook, WebhookReceiver), storage_options=(storage_options, Mapping))
        _check_hook(on_event)
        self.base_url = resolve_base_url(base_url)
        self._key = resolve_key(api_key)
        self.timeouts = timeout or Timeouts()
        self._session = session
        self._transport = transport
        self.engine = Engine(
            self._open_transport,
            limits=limits or Limits(),
            gate=gate,
            schedule=schedule or PollSchedule(),
            webhook=webhook,
            hook=None if on_event is None else Hook(on_event),
            base_url=self.base_url,
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
            timeouts=self.timeouts,
            session=self._session,
            user_agent=f"apixo-async/{_version()}",
        )

    async def submit(self, request: Request, *, callback_url: str | None = None) -> Task:
        """Starts a task and returns its first snapshot; this is what costs money.

        Waits for a slot among the unfinished tasks and for the request rate. The POST is repeated
        only after an error that shows it was not sent, and after 429. The slot stays taken until
        the task is seen to end by any call of this client, twice the schedule's deadline at most.

        If the caller is cancelled with the POST on its way, the answer is still awaited and the
        task id logged. A submit whose answer was lost is called uncertain once the schedule's
        deadline is over in which its callback, with a `webhook`, or the API could tell its task; at
        once where neither a callback nor an id in a broken answer is there to ask about.

        Args:
            request: What to generate.
            callback_url: Asks the API to POST the result there (webhooks page), and to no
                `webhook` of this client; `None` leaves that to the `webhook`, if there is one.

        Raises:
            SubmitUncertainError: Nobody can say whether a task was created and billed.
            NotSentError: The host could not be reached for 15 seconds; nothing was sent.
            StoreError: What the `gate` shares its limits by was away for a minute; nothing was
                sent.
            APIError: The API refused: a wrong key, an empty balance, a bad request.
            InvalidRequestError: `callback_url` is no URL.
            ClientUsageError: The client is closed, or belongs to another event loop.
            TypeError: `request` is not one of the request classes.
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
        """Asks for the state of a task once, now. A task that has failed is a snapshot, no error.

        None of the errors says anything about the task itself.

        Args:
            task: A snapshot, or the id of a task.
            model: The model that the task was submitted with (status-task page, path). It counts
                only beside a bare id.

        Raises:
            NotFoundError: The API does not know this task of this model.
            APIError: The API refused otherwise, or has a problem.
            TransportError: The host could not be reached, or did not answer.
            UnexpectedAnswerError: The answer makes no sense.
            InvalidRequestError: `task` is neither a snapshot nor an id.
            ClientUsageError: The client is closed, or belongs to another event loop.
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

        Failed looks are not fatal: they wait for the next one.

        Args:
            task: A snapshot, or the id of a task.
            model: The model that the task was submitted with. It counts only beside a bare id.
            timeout: Seconds of wall time for this call, above 0; `None` is the schedule's deadline
                (1,800 seconds by default).
            schedule: When to look; `None` is the client's.

        Raises:
            TaskFailedError: The task has failed.
            TaskTimeoutError: Time is up. The task goes on and can be waited for again.
            UnexpectedAnswerError: The task succeeded and never showed a URL.
            NotFoundError: The API denies the id, three times over two minutes.
            AuthenticationError: The key never worked, or has been refused for a minute.
            InvalidSettingError: `timeout` is not above 0.
            InvalidRequestError: `task` is neither a snapshot nor an id.
            ClientUsageError: The client is closed, or belongs to another event loop.
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

        Args:
            task: A snapshot, or the id of a task.
            model: The model that the task was submitted with. It counts only beside a bare id.
            timeout: Seconds of wall time until the end of the task, above 0; `None` is the
                schedule's deadline.
            schedule: When to look; `None` is the client's.

        Raises:
            TaskTimeoutError: As in `wait()`, as are all others; but a task that has failed is the
                last snapshot here.
            InvalidSettingError: As in `wait()`.
            InvalidRequestError: As in `wait()`.
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
        """`submit()`, then `wait()`: returns the successful snapshot with its `urls`.

        If the caller is cancelled meanwhile, the task goes on and the log tells its id.

        Args:
            request: What to generate.
            timeout: Seconds from the moment when the task is accepted, so that standing in line
                for a slot does not use it up; `None` is the schedule's deadline.
            schedule: When to look; `None` is the client's.

        Raises:
            SubmitUncertainError: As in `submit()`, as are its other errors.
            TaskFailedError: As in `wait()`, as are its other errors.
            InvalidSettingError: `timeout` is not above 0; nothing was sent.
        """
        _timeout(timeout, schedule or self.engine.schedule)
        task = await self.submit(request)
        try:
            return await self.wait(task, timeout=timeout, schedule=schedule)
        except asyncio.CancelledError:
            LOGGER.warning(
                "task %s goes on though its caller was cancelled; wait for it by its id",
                task.id,
                extra=fields("task_goes_on", task_id=task.id, model=task.model),
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

        A file gets its name when it is complete and on disk. The API key is not sent. A file that
        has gone is looked for once more where a fresh status call says.

        Args:
            task: A task that has succeeded.
            directory: Where to; it is made if it is missing, for its owner alone. Or as text the
                URL of a storage that fsspec knows, such as `s3://bucket/prefix`; docs/saving.md
                tells what that needs, and what it promises.
            name: What the files are called, never by URL; `None` is the task id. The suffix
                follows the content.
            overwrite: Whether a file of that name is replaced. If not, it is kept and the new one
                gets the next free name.

        Raises:
            DownloadError: A result could not be saved. The task is still done and paid, and
                downloading again is enough.
            InvalidSettingError: `directory` is no place to save to, or the package of its storage
                is missing; nothing was fetched.
            ClientUsageError: The client is closed, or belongs to another event loop.
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
        """As `download()`, and tells size (bytes) and SHA-256 (hex) of each file.

        Args:
            task: A task that has succeeded.
            directory: As in `download()`.
            name: As in `download()`.
            overwrite: As in `download()`.
            only: Takes results by their index, from 0; `None` takes all.
            observer: Is told of each file before and after it gets its name.

        Raises:
            DownloadError: As in `download()`.
            InvalidSettingError: As in `download()`.
            ClientUsageError: The client is closed, or belongs to another event loop.
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
        """The US dollars (USD) that are left on this key (system page, current balance).

        Raises:
            StoreError: As in `submit()`.
            APIError: The API refused, or has a problem.
            TransportError: The host could not be reached, or did not answer.
            UnexpectedAnswerError: The answer makes no sense.
            ClientUsageError: The client is closed, or belongs to another event loop.
        """
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

        Belongs to the client's event loop, as all else does. Once that has ended, what it left is
        closed, and the log names the tasks that go on.

        Raises:
            ClientUsageError: Another event loop runs, and the client's own still does.
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


def _check_hook(hook: object) -> None:
    if hook is not None and not callable(hook):
        msg = f"on_event must be callable, got {type(hook).__name__}"
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
