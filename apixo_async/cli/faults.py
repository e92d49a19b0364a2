"""Errors as a user sees them: one line that says what is wrong, one that says what to do."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Final

import attrs
import click

from apixo_async import errors
from apixo_async._commands import command_line
from apixo_async.cli import exits
from apixo_async.cli.text import printable


@attrs.frozen
class Advice:
    """What to do about an error, and the exit code that it leads to."""

    text: str
    code: int = exits.FAILED


KEY_VARIABLE: Final = "APIXO_API_KEY"
REPORT: Final = "this should not happen: please report it, with what -vv shows"

_ADVICE: Final[tuple[tuple[type[BaseException], Advice], ...]] = (
    (
        errors.InvalidRequestError,
        Advice("nothing was sent; mend what is named and try again", exits.USAGE),
    ),
    (errors.InvalidSettingError, Advice("see --help for what is allowed", exits.USAGE)),
    (errors.ClientUsageError, Advice(REPORT)),
    (
        errors.AuthenticationError,
        Advice(f"check {KEY_VARIABLE} or --api-key-file", exits.STOPPED),
    ),
    (errors.InsufficientCreditsError, Advice("add credits, then try again", exits.STOPPED)),
    (
        errors.SubmitUncertainError,
        Advice(
            "look at your account's history before you submit it again: it may be running",
            exits.UNCERTAIN,
        ),
    ),
    (
        errors.JournalError,
        Advice("nothing was sent; name a journal that apixo batch made, or mend it", exits.USAGE),
    ),
    (errors.NotSentError, Advice("check the network and --base-url, then try again")),
    (errors.NotFoundError, Advice("check the task id, and --model if it is another model's")),
    (errors.RateLimitedError, Advice("wait a minute; --requests-per-minute sets your plan's rate")),
    (
        errors.DownloadError,
        Advice("the video is done and paid: fetch it with apixo download or apixo resume"),
    ),
    (
        errors.ContentViolationError,
        Advice("change the prompt: the same one would be refused again"),
    ),
    (errors.InvalidImageURLError, Advice("give an image URL that anybody can open")),
    (errors.TaskFailedError, Advice("change the request, or send it again")),
    (errors.BadRequestError, Advice("change what the API refuses, then try again")),
    (errors.ServerError, Advice("the trouble is on the API's side: try again later")),
    (errors.APIError, Advice("what the API says tells why; try again later")),
    (
        errors.UnexpectedAnswerError,
        Advice("is --base-url an APIXO API? If it is, try again later; -vv shows more"),
    ),
    (errors.TransportError, Advice("no answer came: try again")),
    (errors.ApixoError, Advice(REPORT)),
    (OSError, Advice("see that the file and its disk can be used, then try again")),
)


def advice_for(error: BaseException, again: Sequence[str] = ()) -> Advice:
    """What to do about an error; a pure look into the table above.

    `again` are options that a command which goes on has to say again.
    """
    if isinstance(error, errors.TaskTimeoutError):
        task = error.task
        return Advice(f"go on waiting with: {command('wait', task.id, task.model, *again)}")
    for kind, advice in _ADVICE:
        if isinstance(error, kind):
            return advice
    return Advice(REPORT)


def command(verb: str, task_id: str, model: str | None = None, *options: str) -> str:
    """A command line about a task, to be copied: `apixo wait ID`."""
    from apixo_async.veo import TextToVideo

    named = () if model is None or model == TextToVideo.model else ("--model", model)
    return command_line(verb, task_id, options=(*named, *options))


def as_options(text: str) -> str:
    """A message of the library, with its settings called as the command line calls them."""
    return text.replace("max_cost", "--max-cost")


class Fault(Exception):  # noqa: N818  # what a user did, or met; not our error
    """An expected error on its way to the user: no traceback, an exit code, and what to do next.

    `advice` is never empty: whoever meets an error should not have to guess.
    """

    def __init__(self, message: str, *, advice: str, code: int = exits.FAILED) -> None:
        super().__init__(printable(message))
        self.message = printable(message)
        self.advice = printable(advice)
        self.code = code

    def show(self) -> None:
        """Writes `error: ...` and the advice to stderr."""
        click.echo(f"error: {self.message}", err=True)
        click.echo(f"  {self.advice}", err=True)

    @classmethod
    def of(cls, error: BaseException, again: Sequence[str] = ()) -> Fault:
        """The fault that shows an error of the library or of the operating system."""
        advice = advice_for(error, again)
        return cls(
            as_options(str(error)) or type(error).__name__, advice=advice.text, code=advice.code
        )


class Interrupted(Exception):  # noqa: N818  # somebody's wish, not an error
    """The work was ended by a signal, in good order."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.name = signal.Signals(number).name
