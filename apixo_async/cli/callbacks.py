"""Callbacks of a batch: where they come in, as it was said now or is noted in the journal."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.cli.options import NONE, WebhookOptions
from apixo_async.cli.text import printable
from apixo_async.errors import InvalidSettingError
from apixo_async.webhooks import WebhookReceiver

SECRET_VARIABLE: Final = "APIXO_WEBHOOK_SECRET"  # noqa: S105  # a name, no password
HOST: Final = "127.0.0.1"
_NAMES: Final = ("webhook_url", "webhook_port", "webhook_host")


@attrs.frozen(kw_only=True)
class Callbacks:
    """Where a batch receives callbacks. `secret` is noted unless the environment gave it."""

    url: str
    host: str
    port: int
    secrets: tuple[str, ...] = attrs.field(repr=False)
    """The first signs."""
    ours: str | None = attrs.field(default=None, repr=False)
    """The one that the journal keeps, for which nobody but us cares."""

    def receiver(self, *, has_journal: bool) -> WebhookReceiver:
        """What takes them in. Raises `Fault` for what cannot work.

        With a journal, what comes before that is read or after it is closed has to come again.
        """
        try:
            return WebhookReceiver(self.url, secret=self.secrets, keeps_orphans=not has_journal)
        except InvalidSettingError as error:
            raise Fault(
                _as_options(str(error)),
                advice="nothing was sent; apixo batch --help says what callbacks need",
                code=exits.USAGE,
            ) from None

    def notes(self) -> Mapping[str, object]:
        """What the journal keeps, so that callbacks of this run find the next one."""
        return {
            "webhook_url": self.url,
            "webhook_port": self.port,
            "webhook_host": self.host,
            **({} if self.ours is None else {"webhook_secret": self.ours}),
        }


NO_NOTES: Final[Mapping[str, object]] = dict.fromkeys(_NAMES)
"""The secret stays: callbacks of earlier runs may come yet, if there is a receiver again."""


def in_force(
    given: WebhookOptions,
    noted: Mapping[str, Any] | None,
    environment: Mapping[str, str] = os.environ,
) -> Callbacks | None:
    """Where callbacks come in, `None` if nowhere. Raises `Fault` for half of what is needed."""
    past: Mapping[str, Any] = {}
    if noted is not None and given.webhook_url != NONE:
        past = noted
    said: dict[str, Any] = {name: getattr(given, name) for name in _NAMES}
    known: dict[str, Any] = {
        name: past.get(name) if value is None else value for name, value in said.items()
    }
    url, port = known["webhook_url"], known["webhook_port"]
    if url in {None, NONE}:
        if given.webhook_port is not None or given.webhook_host is not None:
            raise Fault(
                "--webhook-port and --webhook-host are for --webhook-url, which APIXO calls",
                advice="nothing was sent; give the public address that leads here",
                code=exits.USAGE,
            )
        return None
    if port is None:
        raise Fault(
            f"--webhook-url {url} needs --webhook-port: where its callbacks come in here",
            advice="nothing was sent; give the port, such as --webhook-port 8080",
            code=exits.USAGE,
        )
    own, ours = environment.get(SECRET_VARIABLE), (noted or {}).get("webhook_secret")
    if not own and not ours:
        ours = secrets.token_urlsafe(32)
    return Callbacks(
        url=url,
        host=known["webhook_host"] or HOST,
        port=port,
        secrets=tuple(filter(None, (own, ours))),
        ours=ours,
    )


def tell_noted(given: WebhookOptions, callbacks: Callbacks | None, journal: Path | None) -> None:
    """Says on stderr that callbacks are received, if that is only because it is noted."""
    if callbacks is not None and given.webhook_url is None and journal is not None:
        noted = f"--webhook-url {callbacks.url} --webhook-port {callbacks.port}"
        click.echo(f"as noted in {printable(str(journal))}: {printable(noted)}", err=True)


def _as_options(message: str) -> str:
    return message.replace("public_url", "--webhook-url").replace(
        "secret must", f"{SECRET_VARIABLE} must"
    )
