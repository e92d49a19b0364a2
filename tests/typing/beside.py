"""What stands beside client and runner: errors, callbacks, reports, and what tests are written with."""

from pathlib import Path
from typing import Any, assert_type

from aiohttp import web

from apixo_async import (
    APIError,
    ApixoClient,
    ApixoError,
    AuthenticationError,
    BadRequestError,
    ClientUsageError,
    ContentViolationError,
    DownloadError,
    InsufficientCreditsError,
    InvalidImageURLError,
    InvalidRequestError,
    InvalidSettingError,
    JournalError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    ServerError,
    StoreError,
    SubmitUncertainError,
    Task,
    TaskFailedError,
    TaskTimeoutError,
    TransportError,
    UnansweredError,
    UnexpectedAnswerError,
    WebhookReceiver,
)
from apixo_async.batch.report import write_report
from apixo_async.emulator import FAULTS, Emulator, EmulatorSettings, Ledger, serve
from apixo_async.testing import EmulatorThread, apixo_emulator, emulated, pytest_configure
from apixo_async.webhooks.asgi import AsgiApp


def of_the_api() -> tuple[type[APIError], ...]:
    """What the API refuses with."""
    return (
        AuthenticationError,
        BadRequestError,
        InsufficientCreditsError,
        NotFoundError,
        RateLimitedError,
        ServerError,
    )


def of_a_task() -> tuple[type[TaskFailedError], ...]:
    """Failures that have a class of their own."""
    return (ContentViolationError, InvalidImageURLError)


def of_the_network() -> tuple[type[TransportError], ...]:
    """Whether it was sent is a type."""
    return (NotSentError, UnansweredError)


def of_python() -> tuple[
    type[ValueError], type[ValueError], type[RuntimeError], type[TimeoutError]
]:
    """Some are caught by the names of Python, too."""
    return (InvalidRequestError, InvalidSettingError, ClientUsageError, TaskTimeoutError)


def facts(error: ApixoError) -> None:
    """Facts of errors are attributes."""
    match error:
        case APIError():
            assert_type(error.http_status, int | None)
            assert_type(error.data, object)
        case NotSentError():
            assert_type(error.is_retryable, bool)
        case SubmitUncertainError():
            assert_type(error.open_candidate, str | None)
        case TaskTimeoutError():
            assert_type(error.task, Task)
            assert_type(error.waited, float)
        case UnexpectedAnswerError():
            assert_type(error.excerpt, str)
        case DownloadError():
            assert_type(error.reason, str)
        case StoreError():
            assert_type(error, StoreError)
        case JournalError():
            assert_type(error.task_id, str | None)
        case _:
            assert_type(error, ApixoError)


async def callbacks(receiver: WebhookReceiver) -> None:
    """Where a receiver is mounted, and what it tells."""
    assert_type(receiver.public_url, str)
    assert_type(receiver.aiohttp_app(), web.Application)
    assert_type(receiver.asgi_app(), AsgiApp)
    async with receiver.serve(port=0) as server:
        assert_type(server.port, int)
    server = await receiver.serve("0.0.0.0", 8080)  # noqa: S104  # nobody runs this
    await server.aclose()
    ApixoClient(webhook=receiver)


def reached(emulator: Emulator) -> None:
    """Told once an emulator can be asked."""
    assert_type(emulator.base_url, str)


def a_report() -> None:
    """Prices are written as one likes."""
    assert_type(write_report("run.db"), Path)
    assert_type(write_report(Path("run.db"), Path("page"), prices={"veo-3-1:fast": "0.40"}), Path)


async def an_emulator() -> None:
    """On this event loop, or until it is told to end."""
    settings = EmulatorSettings(speed=60, faults=dict.fromkeys(FAULTS, 0.1))
    async with Emulator(settings) as emulator, emulated(speed=60) as same:
        assert_type(emulator, Emulator)
        assert_type(same, Emulator)
        assert_type(emulator.base_url, str)
        assert_type(emulator.api_key, str)
        assert_type(emulator.ledger, Ledger)
        assert_type(emulator.tasks(), list[dict[str, object]])
        emulator.set_faults({})
        emulator.reset()
        assert_type(emulator.bound(), dict[str, Any])
    await serve(settings, on_ready=reached)


def an_emulator_of_its_own(apixo_emulator: EmulatorThread) -> None:
    """The fixture of pytest is used by its name."""
    with EmulatorThread(apixo_emulator.settings) as other:
        assert_type(other, EmulatorThread)
    assert_type(apixo_emulator.settings, EmulatorSettings)
    assert_type(apixo_emulator.base_url, str)
    ledger = apixo_emulator.ledger
    assert_type(ledger, Ledger)
    assert_type(ledger.billed_total, int)
    assert_type(ledger.accepted, int)
    assert_type(ledger.billed_twice, list[str])
    assert_type(ledger.requests_total, int)
    assert_type(ledger.as_dict(), dict[str, Any])


FOR_PYTEST = (apixo_emulator, pytest_configure)
"""What pytest finds by itself."""
