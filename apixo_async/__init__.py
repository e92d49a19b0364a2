"""APIXO's Veo 3.1 video generation from asyncio: within its limits, never paying twice.

Names are loaded when they are first used, so that `apixo --help` does not import aiohttp.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apixo_async._transport import Timeouts
    from apixo_async.batch import (
        BatchReport,
        BatchRunner,
        Job,
        Outcome,
        OutcomeStatus,
        OutcomeStream,
        StopReason,
    )
    from apixo_async.client import ApixoClient, ClientStatistics
    from apixo_async.downloads import SavedFile
    from apixo_async.errors import (
        APIError,
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
        TaskFailedError,
        TaskTimeoutError,
        TransportError,
        UnansweredError,
        UnexpectedAnswerError,
    )
    from apixo_async.limits import Gate, Limits
    from apixo_async.polling import LearnedSchedule, PollSchedule
    from apixo_async.tasks import Task, TaskState
    from apixo_async.veo import (
        ExtendVideo,
        FramesToVideo,
        ModelRequest,
        ReferenceToVideo,
        Request,
        TextToVideo,
    )
    from apixo_async.webhooks import WebhookReceiver

__all__ = [
    "APIError",
    "ApixoClient",
    "ApixoError",
    "AuthenticationError",
    "BadRequestError",
    "BatchReport",
    "BatchRunner",
    "ClientStatistics",
    "ClientUsageError",
    "ContentViolationError",
    "DownloadError",
    "ExtendVideo",
    "FramesToVideo",
    "Gate",
    "InsufficientCreditsError",
    "InvalidImageURLError",
    "InvalidRequestError",
    "InvalidSettingError",
    "Job",
    "JournalError",
    "LearnedSchedule",
    "Limits",
    "ModelRequest",
    "NotFoundError",
    "NotSentError",
    "Outcome",
    "OutcomeStatus",
    "OutcomeStream",
    "PollSchedule",
    "RateLimitedError",
    "ReferenceToVideo",
    "Request",
    "SavedFile",
    "ServerError",
    "StopReason",
    "StoreError",
    "SubmitUncertainError",
    "Task",
    "TaskFailedError",
    "TaskState",
    "TaskTimeoutError",
    "TextToVideo",
    "Timeouts",
    "TransportError",
    "UnansweredError",
    "UnexpectedAnswerError",
    "WebhookReceiver",
]

_HOMES = (
    "errors",
    "veo",
    "tasks",
    "polling",
    "limits",
    "_transport",
    "downloads",
    "webhooks",
    "client",
    "batch",
)


def __getattr__(name: str) -> object:
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                value = getattr(module, name)
                globals()[name] = value
                return value
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
