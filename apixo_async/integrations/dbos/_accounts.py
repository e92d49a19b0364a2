"""One API key in a durable service: its client, its ledger, and its limits over all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

import attrs

from apixo_async._narrow import shown
from apixo_async.batch import events
from apixo_async.client import ApixoClient
from apixo_async.durable import DurableJobs, Ledger
from apixo_async.errors import InvalidSettingError
from apixo_async.integrations.postgres import PostgresLedger, PostgresLimits
from apixo_async.integrations.sqlite import SqliteLedger, SqliteLimits
from apixo_async.limits import Gate, Limits
from apixo_async.limits.sharing import SharedLimits

NAME_MAX: Final = 60
CLOSING: Final = 1.0
"""Seconds beyond the timeout of a submit that the client is given to close."""
SQLITE: Final = "sqlite:///"
_POSTGRES: Final = ("postgresql://", "postgres://")


class Members(SharedLimits, Protocol):
    """Limits that also tell who shares them."""

    async def members(self, *, left: float = 0.0) -> Collection[str]:
        """Names of the members who have not left, and whose lease has so many seconds left."""
        ...


@attrs.frozen
class Account:
    """What one key needs in this process."""

    name: str
    client: ApixoClient
    gate: Gate
    ledger: Ledger
    jobs: DurableJobs
    limits: Members

    async def open(self, *, works: bool) -> None:
        """Learns the ledger's name; who works is a member from then on. Raises `StoreError`."""
        await self.ledger.open()
        if works:
            await self.gate.join()

    async def aclose(self) -> None:
        """POSTs in flight are answered and recorded first.

        By their timeout they are; what the ledger has not taken then it waits for by itself, and
        not for ever.
        """
        try:
            async with asyncio.timeout(self.client.timeouts.submit + CLOSING):
                await self.client.aclose()
        except TimeoutError:
            pass  # the ledger says what it could not record
        finally:
            await self.ledger.aclose()


def open_account(
    name: str,
    url: str,
    key: str | None,
    *,
    limits: Limits,
    member: str,
    lease: float,
    on_event: Callable[[events.Event], object] | None,
    options: Mapping[str, Any],
) -> Account:
    """An account whose jobs and limits are where the URL says."""
    if url.startswith(SQLITE):
        path = Path(url.removeprefix(SQLITE))
        shared: Members = SqliteLimits(
            beside(path, "limits"), account=name, lease=lease, member=member
        )
        ledger: Ledger = SqliteLedger(beside(path, "jobs"), account=name)
    else:
        shared = PostgresLimits(url, account=name, lease=lease, member=member)
        ledger = PostgresLedger(url, account=name)
    gate = Gate(limits, shared=shared)
    client = ApixoClient(key, gate=gate, **options)
    jobs = DurableJobs(client, ledger, on_event=on_event)
    return Account(name, client, gate, ledger, jobs, shared)


def beside(path: Path, what: str) -> Path:
    """A file of ours beside that of DBOS, which is not to be kept waiting: `veo.jobs.db`."""
    return path.with_name(f"{path.stem}.{what}{path.suffix or '.db'}")


def check_url(url: object) -> str:
    """A URL that both DBOS and we can use."""
    given = url if isinstance(url, str) else ""
    if given.startswith(_POSTGRES):
        return given
    if given.startswith(SQLITE) and given != SQLITE and ":memory:" not in given:
        return given
    seen = shown(url) if "@" not in given else "one with a password"
    raise InvalidSettingError(
        "database_url must be postgresql://user:password@host/database or sqlite:///file.db, "
        f"got {seen}"
    )


def accounts_of(api_key: object) -> Mapping[str, str | None]:
    """Accounts and their keys; a single key is that of the account `default`."""
    if not isinstance(api_key, Mapping):
        return {"default": api_key}  # type: ignore[dict-item]  # checked by the client
    named = cast("Mapping[object, Any]", api_key)
    bad = [name for name in named if not _is_name(name)]
    if bad or not named:
        raise InvalidSettingError(
            "api_key as a mapping must name accounts of 1 to 60 letters, digits, - and _, got "
            f"{shown(bad[0] if bad else named)}"
        )
    return {str(name): key for name, key in named.items()}


def _is_name(name: object) -> bool:
    is_text = isinstance(name, str) and 1 <= len(name) <= NAME_MAX
    return is_text and str(name).replace("-", "").replace("_", "").isalnum()
