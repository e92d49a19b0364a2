"""The decisions of the API, without a socket: a request comes in as values, an answer goes out."""

from __future__ import annotations

import math
from collections import Counter
from http import HTTPStatus
from typing import Any

import attrs

from apixo_async.emulator.bound import list_schedule
from apixo_async.emulator.clock import Clock
from apixo_async.emulator.disturbances import (
    RETRY_AFTER,
    Circumstances,
    disturb,
    seconds_text,
)
from apixo_async.emulator.draws import fingerprint, identifier, unit
from apixo_async.emulator.durations import OTHER, Durations
from apixo_async.emulator.faults import FaultPlan, Stage
from apixo_async.emulator.ledger import Ledger
from apixo_async.emulator.limits import RequestWindow
from apixo_async.emulator.replies import (
    INSUFFICIENT,
    JSON,
    Reply,
    as_http_200,
    error,
    status_data,
    success,
)
from apixo_async.emulator.rules import (
    Submission,
    WrongRequestError,
    prompt_of,
    read_object,
    read_submission,
)
from apixo_async.emulator.settings import EmulatorSettings
from apixo_async.emulator.tasks import Task, TaskTable

_MICRO = 1_000_000
"""Money is added up in millionths of a dollar: sums of floats drift."""


@attrs.define(eq=False)
class Service:
    """One account at the API: its limits, its money, its tasks."""

    settings: EmulatorSettings
    clock: Clock
    base_url: str
    plan: FaultPlan
    tasks: TaskTable = attrs.field(factory=TaskTable)
    ledger: Ledger = attrs.field(init=False)
    _window: RequestWindow = attrs.field(init=False)
    _durations: Durations = attrs.field(init=False)
    _funds: int = attrs.field(init=False)
    _attempts: Counter[str] = attrs.field(factory=Counter[str])
    """Submits that were let in, by fingerprint: a repeated one may meet another fate."""
    _occurrences: Counter[str] = attrs.field(factory=Counter[str])
    """Submits that were accepted, by fingerprint."""
    _last_task: Task | None = None

    def __attrs_post_init__(self) -> None:
        """Set up what depends on the settings."""
        self.ledger = Ledger(refresh=self._refresh)
        self._window = RequestWindow(self.settings.requests_per_minute)
        self._durations = Durations.parse(self.settings.durations)
        self._funds = round(self.settings.balance * _MICRO)

    @classmethod
    def open(cls, settings: EmulatorSettings, clock: Clock, base_url: str) -> Service:
        """Return an account that has done nothing yet; its files are below *base_url*."""
        return cls(settings, clock, base_url, FaultPlan.from_rates(settings.seed, settings.faults))

    # The three calls of the API.

    def submit(
        self, model: str, body: bytes, *, authorized: bool, path: str = "/"
    ) -> tuple[Reply, Task | None]:
        """Answer a submit; the task is the one it created, if it did."""
        try:
            given = read_object(body)
        except WrongRequestError as problem:
            refusal = self._enter("submit", authorized=authorized)
            return self._refuse(refusal or error(400, str(problem))), None
        self.ledger.submits_seen[prompt_of(given.get("input"))] += 1
        subject = fingerprint(model, given.get("input"))
        if refusal := self._enter("submit", authorized=authorized):
            return self._refuse(refusal), None
        attempt = self._attempts[subject]
        self._attempts[subject] += 1
        if fault := self.plan.first(Stage.BEFORE, subject, attempt):
            return self._refuse(
                self._disturb(fault, Reply(), subject, attempt=attempt, path=path)
            ), None
        try:
            submission = read_submission(model, given)
        except WrongRequestError as problem:
            return self._refuse(error(400, str(problem))), None
        if refusal := self._no_room(submission):
            return self._refuse(refusal), None
        previous = self._last_task
        task = self._accept(submission, subject)
        reply = success({"taskId": task.id})
        if fault := self.plan.first(Stage.AFTER, subject, attempt):
            reply = self._disturb(
                fault, reply, subject, attempt=attempt, path=path, previous=previous
            )
        return self._finish(reply), task

    def status(self, model: str, task_id: str, *, authorized: bool, path: str = "/") -> Reply:
        """Answer a status request."""
        if refusal := self._enter("status", authorized=authorized):
            return self._finish(refusal)
        task = self.tasks.by_id.get(task_id)
        attempt = 0
        if task is not None:
            attempt = task.polls
            task.polls += 1
        reply = self._status(model, task_id, task)
        if fault := self.plan.first(Stage.STATUS, task_id, attempt):
            reply = self._disturb(fault, reply, task_id, attempt=attempt, path=path)
        return self._finish(reply)

    def balance(self, *, authorized: bool) -> Reply:
        """Answer with the dollars left, a bare number."""
        refusal = self._enter("balance", authorized=authorized)
        return self._finish(refusal or success(self._funds / _MICRO))

    def stray(self, code: int, message: str | None = None) -> Reply:
        """Answer a request that is none of the three calls, or too large to be looked at."""
        refusal = self._enter("other", authorized=True)
        return self._finish(refusal or error(code, message))

    # What others ask.

    def urls(self, task: Task) -> list[str]:
        """Return where the results of *task* are, finished or not."""
        count = range(self.settings.urls_per_task)
        return [f"{self.base_url}/files/{task.id}/{index}.mp4" for index in count]

    def bound(self) -> dict[str, Any]:
        """Compare the time that was needed with the shortest possible."""
        self.tasks.settle(self.clock.now())
        slots = self.settings.concurrent_tasks
        durations = [seconds for seconds in self.tasks.durations() if math.isfinite(seconds)]
        api_seconds = list_schedule(durations, slots)
        bound, makespan = self.clock.real(api_seconds), self.clock.real(self.tasks.makespan())
        return {
            "slots": slots,
            "jobs": len(durations),
            "bound_s": bound,
            "bound_api_s": api_seconds,
            "makespan_s": makespan,
            "ratio": makespan / bound if bound else None,
        }

    def _refresh(self) -> None:
        ledger, bound = self.ledger, self.bound()
        ledger.makespan_s, ledger.bound_s = bound["makespan_s"], bound["bound_s"]
        ledger.unfinished = self.tasks.settle(self.clock.now())
        ledger.finished = Counter(self.tasks.finished)

    # Steps of an answer.

    def _enter(self, kind: str, *, authorized: bool) -> Reply | None:
        """Count a request; return why it goes no further, if so."""
        ledger, window = self.ledger, self._window
        ledger.requests[kind] += 1
        is_within = window.arrive(self.clock.now())
        ledger.peak_requests_per_window = window.peak
        if not authorized:
            ledger.unauthorized += 1
            return error(401)
        if not is_within:
            ledger.throttled["rate"] += 1
            return error(429)
        return None

    def _no_room(self, submission: Submission) -> Reply | None:
        """Return the refusal for want of a slot or of money."""
        if self.tasks.settle(self.clock.now()) >= self.settings.concurrent_tasks:
            self.ledger.throttled["concurrency"] += 1
            return error(429, "Concurrent task limit exceeded")
        if self._price(submission) > self._funds:
            match self.settings.insufficient_as:
                case "400":
                    return error(400, INSUFFICIENT)
                case "402":
                    return error(402, INSUFFICIENT)
                case "200":
                    return error(400, INSUFFICIENT, status=200)
        return None

    def _price(self, submission: Submission) -> int:
        prices = self.settings.prices
        return round(prices.get(submission.mode or OTHER, prices[OTHER]) * _MICRO)

    def _accept(self, submission: Submission, subject: str) -> Task:
        now, seed = self.clock.now(), self.settings.seed
        occurrence = self._occurrences[subject]
        self._occurrences[subject] += 1
        faults = self.plan.every(Stage.TASK, subject, occurrence)
        if submission.callback_url is None:
            faults = frozenset(name for name in faults if not name.startswith("callback_"))
        price = self._price(submission)
        task = Task(
            id=identifier(seed, subject, occurrence),
            submission=submission,
            accepted_at=now,
            duration=self._duration(submission.mode, faults, subject, occurrence),
            price=price / _MICRO,
            faults=faults,
            failure=self.tasks.failure_of(submission, faults, now, self.settings.result_lifetime),
        )
        self.tasks.add(task)
        self._last_task = task
        self._funds -= price
        self._book(task)
        return task

    def _duration(
        self, mode: str | None, faults: frozenset[str], subject: str, occurrence: int
    ) -> float:
        if "never_ending" in faults:
            return math.inf
        if "callback_early" in faults:
            return 0.0
        share = unit(self.settings.seed, "duration", subject, occurrence)
        return self._durations.draw(mode, share)

    def _book(self, task: Task) -> None:
        ledger = self.ledger
        ledger.billed[task.submission.prompt] += 1
        ledger.cost_usd = round(ledger.cost_usd + task.price, 6)
        ledger.peak_unfinished = self.tasks.peak_unfinished
        ledger.faults.update(task.faults)

    def _status(self, model: str, task_id: str, task: Task | None) -> Reply:
        if not task_id:
            return error(400, "taskId is required")
        now = self.clock.now()
        if task is None or task.submission.model != model or not task.is_known(now):
            return error(404, "Task not found: check the model and the taskId")
        return success(status_data(task, now, self.clock, self.urls(task)))

    def _disturb(
        self,
        fault: str,
        reply: Reply,
        subject: str,
        *,
        attempt: int,
        path: str,
        previous: Task | None = None,
    ) -> Reply:
        self.ledger.faults[fault] += 1
        around = Circumstances(
            path=path,
            retry_after=seconds_text(self.clock.real(RETRY_AFTER)),
            previous_task=previous.id if previous else None,
            choice=unit(self.settings.seed, "code", subject, attempt),
        )
        disturbed = disturb(fault, reply, around)
        if disturbed.code == HTTPStatus.TOO_MANY_REQUESTS:
            self.ledger.throttled["injected"] += 1
        return disturbed

    def _refuse(self, reply: Reply) -> Reply:
        """Note a submit that was not accepted; a cut one has no code and is not noted."""
        if reply.code >= HTTPStatus.BAD_REQUEST:
            self.ledger.rejected[str(reply.code)] += 1
        return self._finish(reply)

    def _finish(self, reply: Reply) -> Reply:
        if self.settings.errors_as_http_200 and reply.content_type == JSON:
            return as_http_200(reply)
        return reply
