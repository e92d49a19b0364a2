"""From options to a client: the key, the limits, the schedule, or a private emulator."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from apixo_async._commands import file_word, quoted
from apixo_async._secret import Secret
from apixo_async.cli import exits
from apixo_async.cli.emulated import EmulatedApi, emulated, scaled_rate
from apixo_async.cli.faults import KEY_VARIABLE, Fault
from apixo_async.cli.options import Options, read_rates
from apixo_async.client import ApixoClient
from apixo_async.errors import AuthenticationError, InvalidSettingError
from apixo_async.limits import Limits
from apixo_async.polling import LearnedSchedule, PollSchedule
from apixo_async.webhooks import WebhookReceiver

_OTHERS: Final = 0o077
_KEY_FILE: Final = f"name a file that holds the key and nothing else, or set {KEY_VARIABLE}"


@attrs.frozen(kw_only=True)
class Connection:
    """What a client is opened with, already scaled if an emulator's clock goes faster."""

    base_url: str | None
    api_key: Secret | None
    limits: Limits
    account: Limits
    """The limits as the account has them, in its own minutes."""
    schedule: PollSchedule
    batch_schedule: PollSchedule
    """That of a batch, which learns unless it is told not to."""
    emulator: EmulatedApi | None = None
    verb: str = "batch"
    """The command that connects, for what is said about an error."""
    takes_emulator: bool = True
    """Whether that command has an option to do without a key."""

    def client(self, webhook: WebhookReceiver | None = None) -> ApixoClient:
        """A new client. Raises `Fault` without a key or with a bad address."""
        try:
            return ApixoClient(
                self.api_key.reveal() if self.api_key else None,
                base_url=self.base_url,
                limits=self.limits,
                schedule=self.schedule,
                webhook=webhook,
            )
        except AuthenticationError as error:
            without = ", or try without one: --emulator" * self.takes_emulator
            advice = f"export {KEY_VARIABLE}=...{without}"
            raise Fault(_sentence(error), advice=advice, code=exits.USAGE) from None
        except InvalidSettingError as error:
            advice = f"nothing was sent; apixo {self.verb} --help says what is allowed"
            raise Fault(str(error), advice=advice, code=exits.USAGE) from None


def _sentence(error: AuthenticationError) -> str:
    # Its own text also speaks to programs, which pass the key as an argument.
    if str(error).startswith("no API key"):
        return f"no API key: set the environment variable {KEY_VARIABLE} or use --api-key-file"
    return str(error)


@contextmanager
def connected(options: Options) -> Generator[Connection]:
    """What to connect with, for as long as the block lasts; an emulator runs meanwhile."""
    log_to_stderr(options.verbose)
    plan = _connection(options)
    if not options.emulator:
        yield attrs.evolve(plan, api_key=_key_of(options.api_key_file))
        return
    if options.base_url is not None:
        raise Fault(
            "--emulator and --base-url exclude each other",
            advice="nothing was sent; leave out one of them",
            code=exits.USAGE,
        )
    with emulated(_emulator_arguments(options, plan.limits), speed=options.emulator_speed) as api:
        yield _scaled(plan, api)


def _connection(options: Options) -> Connection:
    limits = {
        "requests_per_minute": options.requests_per_minute,
        "concurrent_tasks": options.concurrent_tasks,
        "poll_share": options.poll_share,
    }
    numbers = {
        "first": options.first_poll,
        "interval": options.poll_every,
        "deadline": options.deadline,
    }
    kind = LearnedSchedule if options.schedule == "learned" else PollSchedule
    schedule = kind(**_said(numbers))
    learned = LearnedSchedule.beginning_as(schedule)
    account = Limits(**_said(limits))
    return Connection(
        base_url=options.base_url,
        api_key=None,
        limits=account,
        account=account,
        schedule=schedule,
        batch_schedule=schedule if options.schedule == "documented" else learned,
        verb=options.verb,
        takes_emulator=options.takes_emulator,
    )


def _said(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in numbers.items() if number is not None}


def _scaled(plan: Connection, api: EmulatedApi) -> Connection:
    """The same plan on a clock that goes `speed` times as fast."""
    rate = scaled_rate(plan.limits.requests_per_minute, speed=api.speed)
    return attrs.evolve(
        plan,
        base_url=api.base_url,
        api_key=Secret(api.api_key),
        limits=attrs.evolve(plan.limits, requests_per_minute=rate),
        schedule=_faster(plan.schedule, api.speed),
        batch_schedule=_faster(plan.batch_schedule, api.speed),
        emulator=api,
    )


def _faster(schedule: PollSchedule, speed: float) -> PollSchedule:
    faster = attrs.evolve(
        schedule,
        first=schedule.first / speed,
        interval=schedule.interval / speed,
        deadline=schedule.deadline / speed,
    )
    if isinstance(faster, LearnedSchedule):
        return attrs.evolve(faster, shortest=faster.shortest / speed)
    return faster


def _emulator_arguments(options: Options, limits: Limits) -> list[str]:
    """The emulated account has the plan that the options speak of."""
    read_rates(options.emulator_fault)  # which refuses unknown names
    arguments = [
        f"--requests-per-minute={limits.requests_per_minute}",
        f"--concurrent-tasks={limits.concurrent_tasks}",
    ]
    return [*arguments, *(f"--fault={fault}" for fault in options.emulator_fault)]


def _key_of(path: Path | None) -> Secret | None:
    """The key in a file that nobody else can read; `None` leaves it to the environment."""
    if path is None:
        return None
    if os.name == "posix" and path.stat().st_mode & _OTHERS:
        advice = f"chmod 600 {quoted(file_word(path))}"
        raise Fault(f"others can read the key in {path}", advice=advice, code=exits.USAGE)
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise Fault(f"cannot read a key from {path}", advice=_KEY_FILE, code=exits.USAGE) from None
    if not key:
        raise Fault(f"{path} holds no key", advice=_KEY_FILE, code=exits.USAGE)
    return Secret(key)


def log_to_stderr(verbosity: int) -> None:
    """Shows the library's log, and only that: other loggers may speak of headers."""
    if not verbosity:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("apixo_async")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
