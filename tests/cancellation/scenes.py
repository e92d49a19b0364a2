"""What the scenes of the sweep share: a server that notices what comes late, and what must hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping

import attrs

from apixo_async import ApixoClient, NotSentError, UnansweredError
from apixo_async._wire import Reply
from tests.cancellation.stepping import VirtualSteps
from tests.fakes import Answer, FakeApi, envelope, refusal

LOST = UnansweredError("cut", host="api.test", reason="reset")
UNSENT = NotSentError("refused", host="api.test", reason="refused")
SPLIT = Reply(200, b'{"code":200,"data":{"taskId":"task_1"')
"""An answer that broke off behind the task id."""


@attrs.define
class Api(FakeApi):
    """The first answers to submits may be given; knows what was sent after the end."""

    first: tuple[Answer, ...] = ()
    late: list[str] = attrs.field(factory=list)
    _calls: set[asyncio.TimerHandle] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.on_submit = self._instead

    def _instead(self, number: int, _: object) -> Answer:
        answer = self.first[number - 1] if number <= len(self.first) else None
        self.accept_anyway = answer in {LOST, SPLIT}
        return answer

    async def send(self, method: str, path: str, *, body: bytes | None = None) -> Reply:
        if self.is_closed:
            self.late.append(path)
        return await super().send(method, path, body=body)

    def call_in(self, seconds: float, url: str, data: Mapping[str, object]) -> None:
        before = set(self._timers())
        super().call_in(seconds, url, data)
        self._calls |= set(self._timers()) - before

    def _timers(self) -> list[asyncio.TimerHandle]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualSteps)
        return loop.timers

    async def aclose(self) -> None:
        await super().aclose()
        for call in self._calls:
            call.cancel()

    def check(
        self, known: str | Collection[str], *, refused: int = 0, may_be_lost: int = 0
    ) -> None:
        """Every task is known, no job was paid for twice, and nothing came after the end."""
        unknown = [task_id for task_id in self.tasks if task_id not in known]
        assert len(unknown) <= may_be_lost, f"nobody knows of {unknown}"
        assert max(Counter(self.billed).values(), default=0) <= 1, "paid twice"
        assert len(self.submits) <= len(set(map(prompt_of, self.bodies))) + refused, "sent twice"
        assert not self.late, f"sent after the end: {self.late}"


def prompt_of(body: object) -> str:
    """What was asked for."""
    return str(body)


def check_gate(client: ApixoClient, *, running: int) -> None:
    """So many slots are taken, and nobody holds, or waits for, anything else."""
    gate = client.engine.gate
    rate = gate.rate
    assert gate.slots.held == gate._places.held == running
    assert gate._posts.held == 0, "a turn is held"
    assert not gate._starting
    assert not gate.slots.waiting + gate._places.waiting + gate._posts.waiting
    assert not rate._all.waiting + rate._submits.waiting
    assert rate._all._server is rate._submits._server is None
    assert client.statistics().submits_in_flight == 0


def check_waiters(client: ApixoClient) -> None:
    """Nobody is noted as waiting for a task or for anything else."""
    engine = client.engine
    assert engine._watcher._polling == 0
    assert not engine.closing._waiting | engine.closing._cut
    assert all(tracked.watchers == 0 for tracked in engine.tracker._tasks.values())
    assert not engine._pacer._watched


__all__ = ["LOST", "SPLIT", "UNSENT", "Api", "check_gate", "check_waiters", "envelope", "refusal"]
