"""What an observer of the wire sees of each process, and the rules that hold all the time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import attrs

from apixo_async import StopReason
from apixo_async._wire import Reply, candidate_task_id
from apixo_async.errors import UnansweredError
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.network import Request

WINDOW: Final = 60.0
UNDER_WAY: Final = 0.5
"""Seconds that a submit may be on its way from the gate to the network: it is recorded first."""
LONGEST_PAUSE: Final = 120.0
DENIALS: Final = 3
DENIED_FOR: Final = 120.0
"""So many denials in a row, over so many seconds, are taken for the truth."""
REFUSALS: Final = (400, 401, 402, 403, 404, 422, 429)


@attrs.define
class Post:
    """One submit as the wire saw it: `answer` is what its client was given, if anything."""

    sent_at: float
    life: int
    is_undisturbed: bool
    answered_at: float | None = None
    answer: Reply | UnansweredError | None = None

    @property
    def candidate(self) -> str | None:
        """The task that its answer names, in however bad a state that came."""
        if isinstance(self.answer, Reply):
            return candidate_task_id(self.answer.body.decode())
        return None if self.answer is None else candidate_task_id(self.answer.received)

    @property
    def is_refused(self) -> bool:
        """Whether its client was told that no task was made."""
        return isinstance(self.answer, Reply) and (
            self.answer.status in REFUSALS or b'"code":429' in self.answer.body
        )


class Watched:
    """Collects what went over the wire; breaches of rules are added to `found`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.found: list[str] = []
        self.posts: dict[str, list[Post]] = {}
        self.denied: dict[str, float] = {}
        """By task, since when it counts as denied: one answer of many may be of a server behind."""
        self._denials: dict[str, tuple[int, float, int]] = {}
        """By task, the process that is told, since when, and how often in a row."""
        self.stopping: dict[int, list[tuple[StopReason, float]]] = {}
        """By process, which answers to its submits must stop it, and when it was given them."""
        self._sent: deque[float] = deque()
        self._life = 0
        self._quiet: dict[str, tuple[float, float]] = {}
        """Since when, and until when, the server asked for silence."""

    def breach(self, rule: str, *details: object) -> None:
        """A rule was broken."""
        what = " ".join(map(str, details))
        self.found.append(f"{rule}: {what}")
        self._world.note("BREACH", rule, what)

    def sent(self, request: Request) -> None:
        """A request leaves the client."""
        now = self._world.time
        if request.life != self._life:
            self._life = request.life
            self._sent.clear()
            self._quiet.clear()
        since, until = self._quiet.get(request.method, (0.0, 0.0))
        if since + UNDER_WAY < now < until:
            self.breach("sent while asked to wait", request.method, f"{since:.3f} to {until:.3f}")
        self._count(now)
        if request.body is not None:
            self._after_a_stop(request, now)
            self.posts.setdefault(request.name, []).append(
                Post(now, request.life, request.fault is None and self._world.outage() is None)
            )

    def _after_a_stop(self, request: Request, now: float) -> None:
        for reason, when in self.stopping.get(request.life, ()):
            if now > when + UNDER_WAY and not self._world.has_refused:
                self.breach("sent after a stop", request.name, f"for {reason} at {when:.3f}")

    def _count(self, now: float) -> None:
        self._sent.append(now)
        while self._sent[0] <= now - WINDOW:
            self._sent.popleft()
        if len(self._sent) > self._world.plan.limits.requests_per_minute:
            self.breach("requests above the limit", len(self._sent), "in a minute")

    def answered(self, request: Request, answer: Reply | UnansweredError) -> None:
        """The client is given an answer."""
        if request.body is not None:
            for post in self.posts[request.name]:
                if post.sent_at == request.sent_at and post.life == request.life:
                    post.answer, post.answered_at = answer, self._world.time
            self._note_stop(request, answer)
        else:
            self.looked(request, is_denied=isinstance(answer, Reply) and answer.status == 404)
        if isinstance(answer, Reply) and (answer.status == 429 or b'"code":429' in answer.body):
            self._ask_to_wait(request.method, answer.retry_after or "")

    def _note_stop(self, request: Request, answer: Reply | UnansweredError) -> None:
        reason = None
        if isinstance(answer, Reply) and answer.status == 401:
            reason = StopReason.KEY
        if isinstance(answer, Reply) and b"Insufficient credits" in answer.body:
            reason = StopReason.BALANCE
        if reason is not None:
            self.stopping.setdefault(request.life, []).append((reason, self._world.time))

    def looked(self, request: Request, *, is_denied: bool) -> None:
        """A status call has ended, answered or not."""
        (task_id,) = parse_qs(urlsplit(request.path).query)["taskId"]
        if not is_denied:
            self._denials.pop(task_id, None)
            return
        life, since, count = self._denials.get(task_id, (0, 0.0, 0))
        if life != request.life:
            life, since, count = request.life, self._world.time, 0
        self._denials[task_id] = life, since, count + 1
        if self.is_denied_now(task_id):
            self.denied.setdefault(task_id, self._world.time)

    def is_denied_now(self, task_id: str) -> bool:
        """Whether every answer to this process has denied the task for long enough."""
        life, since, count = self._denials.get(task_id, (0, 0.0, 0))
        is_long = self._world.time - since >= DENIED_FOR
        return life == self._world.life_number and count >= DENIALS and is_long

    def _ask_to_wait(self, method: str, retry_after: str) -> None:
        if not retry_after.isdecimal():
            return
        now = self._world.time
        # A refused look is about the rate, which is everybody's.
        for each in ("POST",) if method == "POST" else ("GET", "POST"):
            since, until = self._quiet.get(each, (now, 0.0))
            since = since if until > now else now
            self._quiet[each] = since, max(until, now + min(float(retry_after), LONGEST_PAUSE))
