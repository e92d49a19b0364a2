"""Options that several commands share, and the value that carries them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import attrs
import click

from apixo_async._commands import file_word
from apixo_async.cli import exits
from apixo_async.cli.completing import directories, words
from apixo_async.cli.destinations import as_place
from apixo_async.cli.faults import Fault
from apixo_async.cli.helping import nearest

Decorated: TypeAlias = Callable[..., None]
Schedule: TypeAlias = Literal["documented", "learned"]

SPEED: Final = 20.0
NONE: Final = "none"
"""Takes back what is noted in a journal."""


@attrs.frozen(kw_only=True)
class Options:
    """What was said on the command line about the connection; `None` where nothing was said."""

    base_url: str | None = None
    api_key_file: Path | None = None
    requests_per_minute: int | None = None
    concurrent_tasks: int | None = None
    first_poll: float | None = None
    poll_every: float | None = None
    schedule: Schedule | None = None
    poll_share: float | None = None
    deadline: float | None = None
    emulator: bool = False
    emulator_speed: float = SPEED
    emulator_fault: tuple[str, ...] = ()
    as_json: bool = False
    verbose: int = 0
    verb: str = "batch"
    """The command that they were given to."""
    takes_emulator: bool = True
    """Whether that command can run against an emulator of its own."""

    @property
    def again(self) -> tuple[str, ...]:
        """What a command that goes on has to say again: nothing else knows where the API is."""
        words = () if self.base_url is None else ("--base-url", self.base_url)
        if self.api_key_file is None:
            return words
        return (*words, "--api-key-file", file_word(self.api_key_file))


class Number(click.FloatRange):
    """A number within bounds; an error calls it so."""

    name = "number"


class WholeNumber(click.IntRange):
    """A whole number within bounds; an error calls it so."""

    name = "whole number"


def fault_option(*names: str, text: str) -> Callable[[Decorated], Decorated]:
    """A repeatable option `NAME=RATE`: a fault of the emulator and how often it strikes."""
    return click.option(
        *names, multiple=True, metavar="NAME=RATE", callback=_checked_rates, help=text
    )


def _checked_rates(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """The same texts if they have the form; what names exist is looked up where they are read."""
    for text in values:
        name, _, rate = text.partition("=")
        try:
            is_rate = bool(name) and 0 <= float(rate) <= 1
        except ValueError:
            is_rate = False
        if not is_rate:
            msg = f"{text!r} must have the form NAME=RATE with a rate from 0 to 1"
            raise click.BadParameter(msg, ctx, param)
    return values


def read_rates(given: tuple[str, ...]) -> dict[str, float]:
    """Rates by name from the values of a `fault_option`. Raises `Fault` for an unknown name."""
    from apixo_async.emulator import FAULTS

    rates = {name: float(rate) for name, _, rate in (text.partition("=") for text in given)}
    if unknown := next((name for name in rates if name not in FAULTS), None):
        near = " or ".join(map(repr, nearest(unknown, FAULTS)))
        meant = f"; did you mean {near}?" if near else ""
        raise Fault(
            f"the emulator has no fault called {unknown!r}{meant}",
            advice="apixo emulator --list-faults shows all names and what each does",
            code=exits.USAGE,
        )
    return rates


def _seconds(name: str, *, text: str, above_zero: bool = False) -> Callable[[Decorated], Decorated]:
    kind = Number(min=0, min_open=above_zero)
    return click.option(name, type=kind, metavar="SECONDS", help=text)


_CONNECTION: Final = (
    click.option(
        "--base-url", metavar="URL", help="Where the API is; default $APIXO_BASE_URL or APIXO."
    ),
    click.option(
        "--api-key-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Read the key from a file only you can read, instead of $APIXO_API_KEY.",
    ),
    click.option(
        "--requests-per-minute",
        type=WholeNumber(min=1),
        metavar="N",
        help="Your plan's request rate.  [default: 10000]",
    ),
    click.option(
        "--concurrent-tasks",
        type=WholeNumber(min=1),
        metavar="N",
        help="Your plan's unfinished tasks at a time.  [default: 1000]",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line."),
    click.option("-v", "--verbose", count=True, help="Log to stderr; -vv logs more."),
)
_WAITING: Final = (
    click.option(
        "--schedule",
        type=click.Choice(["documented", "learned"]),
        help="Look at fixed times, or where tasks were seen to end.  [default: documented; a batch "
        "learns]",
    ),
    _seconds("--first-poll", text="When to look at a task first.  [default: 90]"),
    _seconds(
        "--poll-every",
        above_zero=True,
        text="How often then, until a batch has learned better.  [default: 5]",
    ),
    click.option(
        "--poll-share",
        type=Number(min=0, max=1, min_open=True),
        metavar="PART",
        help="The part of the request rate that looks may plan with.  [default: 0.6; 0.9 learned]",
    ),
    _seconds("--deadline", above_zero=True, text="How long to wait for one task.  [default: 1800]"),
)
_EMULATOR: Final = (
    click.option(
        "--emulator", is_flag=True, help="Run against a private emulator: no key, no cost."
    ),
    click.option(
        "--emulator-speed",
        type=Number(min=0, min_open=True),
        default=SPEED,
        show_default=True,
        metavar="FACTOR",
        help="How fast the emulator's clock goes.",
    ),
    fault_option(
        "--emulator-fault",
        text="Let something go wrong; repeatable, names: apixo emulator --list-faults.",
    ),
)


def gathered(
    name: str, cls: Callable[..., Any], options: Sequence[Callable[[Decorated], Decorated]]
) -> Callable[[Decorated], Decorated]:
    """Adds options to a command, which gets those that are fields of `cls` as one value `name`."""
    names = {field.name for field in attrs.fields(cast("type[Any]", cls))}

    def decorate(command: Decorated) -> Decorated:
        @functools.wraps(command)
        def with_value(**given: Any) -> None:  # noqa: ANN401  # whatever the options give
            ours = {field: value for field, value in given.items() if field in names}
            rest = {field: value for field, value in given.items() if field not in names}
            command(**{name: cls(**ours)}, **rest)

        decorated: Decorated = with_value
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def shared(*, waiting: bool = False, emulator: bool = False) -> Callable[[Decorated], Decorated]:
    """Adds the shared options to a command, which gets them as one `Options` value."""
    groups = (*(_WAITING if waiting else ()), *_CONNECTION, *(_EMULATOR if emulator else ()))
    add = gathered("options", Options, groups)

    def decorate(command: Decorated) -> Decorated:
        @functools.wraps(command)
        def keeping(*, options: Options, **given: Any) -> None:  # noqa: ANN401  # as above
            context = click.get_current_context()
            verb = context.info_name or options.verb
            options = attrs.evolve(options, verb=verb, takes_emulator=emulator)
            # For what is said about an error where these options are not known any more.
            context.find_root().obj = options
            command(options=options, **given)

        return add(keeping)

    return decorate


save_to = click.option(
    "--save-to",
    callback=as_place,
    shell_complete=directories,
    metavar="DIR|URL",
    help="Download the videos into this directory, or to the URL of a storage: s3://BUCKET/PREFIX.",
)
max_jobs = click.option(
    "--max-jobs", type=WholeNumber(min=1), metavar="N", help="Take only the first N jobs."
)


@attrs.frozen(kw_only=True)
class WebhookOptions:
    """Where callbacks come in; `None` where nothing was said."""

    webhook_url: str | None = None
    webhook_port: int | None = None
    webhook_host: str | None = None


webhook = gathered(
    "webhook",
    WebhookOptions,
    (
        click.option(
            "--webhook-url",
            metavar="URL",
            help="Let APIXO call back instead of asking it: the public HTTPS address at which it "
            "reaches us; none forgets a noted one.",
        ),
        click.option(
            "--webhook-port",
            type=WholeNumber(min=1, max=65_535),
            metavar="PORT",
            help="Receive callbacks there, for as long as the batch runs.",
        ),
        click.option(
            "--webhook-host",
            metavar="HOST",
            help="The address to receive them on.  [default: 127.0.0.1, for a proxy beside us]",
        ),
    ),
)
"""Gives the command `webhook`, a `WebhookOptions`."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
"""For commands that take none of the `shared` options."""
model = click.option(
    "--model",
    default="veo-3-1",
    show_default=True,
    help="The model the task was submitted with.",
    shell_complete=words("veo-3-1", "veo-3-1-extend"),
)
