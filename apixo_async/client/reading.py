"""Reads: status calls and the balance, each through the gate, which learns from the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from apixo_async._logs import LOGGER, fields
from apixo_async._transport import Transport
from apixo_async._wire import (
    BALANCE_PATH,
    Reply,
    read_balance,
    read_task,
    status_path,
    unwrap,
)
from apixo_async.client.telling import Call, Teller
from apixo_async.errors import ApixoError, BadRequestError, NotFoundError, RateLimitedError
from apixo_async.limits import Gate, Permit
from apixo_async.tasks import Task

CONFIRM_LOOKS: Final = 3
_UNKNOWN: Final = frozenset({400, 404})
"""What the API itself says of a task that it does not know; not what stands before it."""


class Reader:
    """Makes reads; `key_worked` tells whether the API has ever accepted the key."""

    def __init__(self, gate: Gate, teller: Teller | None = None) -> None:
        self._gate = gate
        self._teller = teller
        self.key_worked = False

    async def task(self, transport: Transport, task_id: str, model: str) -> Task:
        """One status call."""
        path = status_path(model, task_id)
        if self._teller is None:
            data = await self._data(transport, path, poll=True)
        else:
            call = Call("GET", "status", path, model=model, task_id=task_id)
            data = await self._told(self._teller, transport, call)
        return read_task(data, model=model, task_id=task_id)

    async def balance(self, transport: Transport) -> float:
        """The USD left on the key."""
        if self._teller is None:
            return read_balance(await self._data(transport, BALANCE_PATH, poll=False))
        call = Call("GET", "balance", BALANCE_PATH)
        return read_balance(await self._told(self._teller, transport, call))

    async def knows(
        self, transport: Transport, task_id: str, model: str, *, pause: float
    ) -> bool | None:
        """Whether the API knows a task id; `None` if not every answer said that it does not.

        It is asked a few times with pauses (seconds), as a new task may be unknown at first.
        """
        denials = 0
        for looks in range(CONFIRM_LOOKS):
            if looks:
                await asyncio.sleep(pause)
            try:
                await self.task(transport, task_id, model)
            except (NotFoundError, BadRequestError) as error:
                denials += error.code in _UNKNOWN
            except ApixoError as error:
                LOGGER.debug(
                    "candidate %s not confirmed: %s",
                    task_id,
                    error,
                    extra=fields(
                        "candidate_unconfirmed", task_id=task_id, model=model, error=error
                    ),
                )
            else:
                return True
        return False if denials == CONFIRM_LOOKS else None

    async def _data(self, transport: Transport, path: str, *, poll: bool) -> object:
        """The data of one GET through the gate."""
        permit = await self._permit(poll=poll)
        return self._judged(permit, await transport.send("GET", path))

    def _permit(self, *, poll: bool) -> Awaitable[Permit]:
        """Every look passes here, so the gate is entered by its inner door."""
        gate = self._gate
        return gate.rate.wait_open(poll=True) if poll else gate.permit(poll=False)

    async def _told(self, teller: Teller, transport: Transport, call: Call) -> object:
        """The same where somebody listens: beside it, not within, since every look passes there."""
        call.ask()
        permit = await self._permit(poll=call.call == "status")
        call.begin()
        reply: Reply | None = None
        failed: str | None = None
        try:
            reply = await transport.send("GET", call.path)
            return self._judged(permit, reply)
        except BaseException as error:
            failed = type(error).__name__
            raise
        finally:
            teller.requested(call, reply, failed)

    def _judged(self, permit: Permit, reply: Reply) -> object:
        """The data of an answer, which the gate learns from."""
        try:
            data = unwrap(reply)
        except RateLimitedError as error:
            self._gate.throttled(permit, retry_after=error.retry_after, submit=False)
            raise
        except (NotFoundError, BadRequestError):
            self.key_worked = True
            self._gate.answered(permit)
            raise
        except ApixoError:
            self._gate.failed(permit)
            raise
        self.key_worked = True
        self._gate.answered(permit)
        return data
