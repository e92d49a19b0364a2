"""Jobs of a journal summed up, taken in one by one in flat memory."""

from __future__ import annotations

from array import array
from collections import Counter
from datetime import datetime, timedelta
from typing import Final

from apixo_async.batch.journal.entries import Entry, JobState
from apixo_async.batch.journal.history import NAMED, OTHER_TASKS, open_attempt
from apixo_async.batch.journal.overview import (
    LISTED,
    WARN_AFTER,
    WINDOW,
    Doubled,
    Doubt,
    Durations,
    Expiry,
    Failure,
    Kind,
    Overview,
    Standing,
    standing,
)
from apixo_async.batch.spending import Prices
from apixo_async.tasks import RESULT_LIFETIME, Task

REASONS: Final = 200
"""Different reasons of failures that are told apart."""
OTHER_REASONS: Final = "other reasons"
KEYS: Final = 5
"""Jobs that are named of each reason."""
_CRASH: Final = "the process ended while this submit was on its way"


class _KindTally:
    def __init__(self) -> None:
        self.jobs = 0
        self.charges = 0
        self.seconds = array("d")


class _FailureTally:
    def __init__(self) -> None:
        self.count = 0
        self.keys: list[str] = []


class Tally:
    """Takes in entries and gives their `Overview`. Memory: eight bytes for each ended job."""

    def __init__(self, *, now: datetime, owner: str | None) -> None:
        self._now = now
        self._owner = owner
        self._states = Counter[JobState]()
        self._submits = self._retries = self._not_sent = self._unsaved = 0
        self._next_kind: tuple[str, str | None] | None = None
        self._kinds: dict[tuple[str, str | None], _KindTally] = {}
        self._failures: dict[tuple[JobState, str | None, str], _FailureTally] = {}
        self._doubts: list[Doubt] = []
        self._doubled: list[Doubled] = []
        self._doubled_count = 0
        self._expiring: list[Expiry] = []
        self._expired: list[Expiry] = []
        self._expiring_count = self._expired_count = 0
        self._ended = self._ended_lately = 0
        self._first: str | None = None
        self._last = ""
        # The journal's times are all UTC and of one form, so their texts sort as they do.
        self._lately = _text(now - WINDOW)
        self._warn_before = _text(now - WARN_AFTER)

    def add(self, entry: Entry, *, not_sent: int = 0) -> None:
        """Takes in a job; `not_sent` of its attempts surely made no task."""
        self._states[entry.state] += 1
        self._submits += entry.attempts - not_sent
        self._retries += max(0, entry.attempts - not_sent - 1)
        self._not_sent += not_sent
        if entry.note is not None:
            self._add_others(entry)
        kind = self._kinds.get((entry.model, entry.mode))
        if kind is None:
            kind = self._kinds[entry.model, entry.mode] = _KindTally()
        kind.jobs += 1
        kind.charges += entry.charges + (entry.state is JobState.SENDING)
        if entry.sending_at is not None and (self._first is None or entry.sending_at < self._first):
            self._first = entry.sending_at
        match standing(entry.state, is_owned=self._owner is not None):
            case Standing.SUCCEEDED:
                self._add_end(entry, kind)
                if not entry.saved:
                    self._add_unsaved(entry)
            case Standing.FAILED:
                self._add_end(entry, kind)
                self._add_failure(entry)
            case Standing.UNCERTAIN:
                if len(self._doubts) < LISTED:
                    self._doubts.append(doubt_of(entry))
            case Standing.NOT_STARTED:
                self._next_kind = self._next_kind or (entry.model, entry.mode)
            case _:
                pass

    def _add_others(self, entry: Entry) -> None:
        others, unnamed = entry.why().get(OTHER_TASKS, ()), open_attempt(entry)
        is_doubled = bool(others) or unnamed is not None
        self._doubled_count += is_doubled
        if is_doubled and len(self._doubled) < LISTED:
            ids = tuple(map(str, others))
            self._doubled.append(
                Doubled(key=entry.key, task_id=entry.task_id, others=ids, open_attempt=unnamed)
            )

    def _add_end(self, entry: Entry, kind: _KindTally) -> None:
        if entry.ended_at is None or entry.state is JobState.ABANDONED:
            return  # a decision is no progress
        self._ended += 1
        self._last = max(self._last, entry.ended_at)
        self._ended_lately += entry.ended_at >= self._lately
        if (seconds := seconds_of(entry)) is not None:
            kind.seconds.append(seconds)

    def _add_unsaved(self, entry: Entry) -> None:
        self._unsaved += 1
        if entry.accepted_at is not None and entry.accepted_at > self._warn_before:
            return  # no task ends before it was accepted; reading its answer would take long
        at = expiry_of(entry, entry.snapshot())
        if at is None or at - RESULT_LIFETIME + WARN_AFTER > self._now:
            return
        expiry = Expiry(key=entry.key, at=at)
        if at <= self._now:
            self._expired_count += 1
            _list(self._expired, expiry)
        else:
            self._expiring_count += 1
            _list(self._expiring, expiry)

    def _add_failure(self, entry: Entry) -> None:
        name = (entry.state, *failure_of(entry))
        if name not in self._failures and len(self._failures) >= REASONS:
            name = (entry.state, None, OTHER_REASONS)
        failure = self._failures.setdefault(name, _FailureTally())
        failure.count += 1
        if len(failure.keys) < KEYS:
            failure.keys.append(entry.key)

    def overview(self, prices: Prices | None = None, *, has_crashed: bool = False) -> Overview:
        """All that was taken in."""
        prices = prices or Prices()
        return Overview(
            at=self._now,
            owner=self._owner,
            has_crashed=has_crashed,
            states={state: self._states[state] for state in JobState},
            submits=self._submits,
            retries=self._retries,
            kinds=tuple(
                Kind(
                    model=model,
                    mode=mode,
                    jobs=kind.jobs,
                    charges=kind.charges,
                    price=prices.of_kind(model, mode),
                    durations=Durations.of(kind.seconds),
                )
                for (model, mode), kind in sorted(
                    self._kinds.items(), key=lambda item: (item[0][0], item[0][1] or "")
                )
            ),
            failures=tuple(
                Failure(
                    state=state,
                    code=code,
                    reason=reason,
                    count=failure.count,
                    keys=tuple(failure.keys),
                )
                for (state, code, reason), failure in sorted(
                    self._failures.items(), key=lambda item: -item[1].count
                )
            ),
            doubts=tuple(self._doubts),
            doubled_count=self._doubled_count,
            doubled=tuple(self._doubled),
            expiring_count=self._expiring_count,
            expiring=tuple(self._expiring),
            expired_count=self._expired_count,
            expired=tuple(self._expired),
            unsaved=self._unsaved,
            recent_rate=self._ended_lately / self._minutes_until(self._now, most=WINDOW),
            overall_rate=self._overall_rate(),
            not_sent=self._not_sent,
            next_kind=self._next_kind,
            next_price=None if self._next_kind is None else prices.of_kind(*self._next_kind),
        )

    def _overall_rate(self) -> float | None:
        if not self._ended:
            return None
        return self._ended / self._minutes_until(datetime.fromisoformat(self._last))

    def _minutes_until(self, end: datetime, *, most: timedelta = timedelta.max) -> float:
        """Minutes since the first submit, from a second up, so that no rate is absurd."""
        first = end if self._first is None else datetime.fromisoformat(self._first)
        return max(timedelta(seconds=1), min(end - first, most)) / timedelta(minutes=1)


def _list(listed: list[Expiry], expiry: Expiry) -> None:
    if len(listed) < LISTED:
        listed.append(expiry)


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


# What one entry says


def seconds_of(entry: Entry) -> float | None:
    """Seconds from acceptance to end: the API's own where it told both times, else the journal's.

    The journal's end is when it was seen, which may be long after, if no process looked. `None` if
    a time is missing.
    """
    task = entry.snapshot()
    if task is not None and task.created_at is not None and task.completed_at is not None:
        return max(0.0, (task.completed_at - task.created_at).total_seconds())
    if entry.accepted_at is None or entry.ended_at is None:
        return None
    span = datetime.fromisoformat(entry.ended_at) - datetime.fromisoformat(entry.accepted_at)
    return max(0.0, span.total_seconds())


def expiry_of(entry: Entry, task: Task | None) -> datetime | None:
    """When its URLs stop working: 15 days after completion, or after we learned of it."""
    if task is not None and task.expires_at is not None:
        return task.expires_at
    if entry.ended_at is None:
        return None
    return datetime.fromisoformat(entry.ended_at) + RESULT_LIFETIME


def failure_of(entry: Entry) -> tuple[str | None, str]:
    """Code and reason of an end without a result, in words that equal failures share: no ids."""
    task, why = entry.snapshot(), entry.why()
    if task is not None and (task.fail_code or task.fail_message):
        return task.fail_code, task.fail_message or "no reason given"
    code = why.get("fail_code") or why.get("code") or why.get("http_status")
    reason = str(why.get("reason") or "no reason given")
    if entry.task_id is not None:
        reason = reason.replace(f" {entry.task_id}", "")
    return None if code is None else str(code), reason


def doubt_of(entry: Entry) -> Doubt:
    """What is known of a submit that may have made a task."""
    why = entry.why()
    was_sending = entry.state is JobState.SENDING
    received = str(why.get("received") or "")
    size = why.get("received_bytes")
    called_back = next((told for name in NAMED for told in why.get(name, ())), None)
    return Doubt(
        key=entry.key,
        sent_at=None if entry.sending_at is None else datetime.fromisoformat(entry.sending_at),
        phase=str(why.get("phase") or ("crash" if was_sending else "answer")),
        reason=str(why.get("reason") or (_CRASH if was_sending else "no reason given")),
        received=received,
        received_bytes=len(received.encode("utf-8", "surrogatepass")) if size is None else size,
        candidate_task_id=called_back or why.get("candidate_task_id"),
        attempts=entry.attempts,
        candidate_denied=called_back is None and bool(why.get("candidate_denied")),
    )
