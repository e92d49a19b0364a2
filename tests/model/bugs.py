"""Variants of the protocol that hold, and planted bugs that must be found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState, leftovers
from apixo_async.client.judging import Judgement, judge
from apixo_async.errors import ServerError
from apixo_async.retries import SubmitVerdict
from tests.model.rules import AT, KEY, Model, Rules, after
from tests.model.world import Budgets

# Variants


@attrs.frozen
class Variant:
    """A model without a bug, how many states it has, and how many tasks a job may come to have."""

    model: Model
    states: int
    tasks: int


FAST: Final[Mapping[str, Variant]] = {
    "polling": Variant(Model(Budgets(runs=4, crashes=3, faults=1)), 1216, 1),
    "polling, a decision": Variant(
        Model(Budgets(runs=3, crashes=2, faults=1, decisions=1)), 6265, 2
    ),
    "callbacks": Variant(Model(Budgets(runs=3, crashes=2, calls=2)), 2424, 1),
    "callbacks, a decision": Variant(
        Model(Budgets(runs=2, crashes=1, calls=1, decisions=1)), 3155, 2
    ),
    "callbacks, one forged": Variant(
        Model(Budgets(runs=2, crashes=1, calls=1, forgeries=1)), 3423, 1
    ),
    "retries": Variant(Model(Budgets(runs=3, crashes=2, failures=2), retries=1), 1257, 2),
    "retries, callbacks": Variant(
        Model(Budgets(runs=2, crashes=1, failures=2, calls=1), retries=1), 2886, 2
    ),
    "resubmit": Variant(Model(Budgets(runs=2, crashes=1, losses=2), policy="resubmit"), 9046, 4),
    "resubmit, callbacks": Variant(
        Model(Budgets(runs=2, crashes=1, losses=1, calls=1), policy="resubmit"), 9260, 3
    ),
    "a cap of two": Variant(
        Model(
            Budgets(runs=3, crashes=2, losses=3, failures=1), policy="resubmit", retries=1, cap=2
        ),
        6282,
        2,
    ),
}
SLOW: Final[Mapping[str, Variant]] = {
    "polling": Variant(Model(Budgets(runs=4, crashes=3, faults=1, decisions=1)), 11856, 2),
    "callbacks": Variant(Model(Budgets(runs=4, crashes=3, faults=1, calls=2)), 11493, 1),
    "callbacks, a decision": Variant(
        Model(Budgets(runs=3, crashes=2, faults=1, calls=1, decisions=1)), 38412, 2
    ),
    "resubmit": Variant(Model(Budgets(runs=3, crashes=2, losses=2), policy="resubmit"), 54348, 5),
    "resubmit, callbacks, retries": Variant(
        Model(
            Budgets(runs=2, crashes=1, losses=1, failures=1, calls=1),
            policy="resubmit",
            retries=1,
        ),
        61955,
        4,
    ),
}

# Planted bugs


@attrs.frozen
class Bug:
    """A model with a bug, and the broken promises by the length of the shortest path to each."""

    model: Model
    breaks: Mapping[str, int]


def _as_not_sent(*args: Any, **named: Any) -> Judgement:  # noqa: ANN401  # as `judge`
    judged = judge(*args, **named)
    is_doubt = judged.verdict is SubmitVerdict.UNCERTAIN and judged.candidate is None
    return attrs.evolve(judged, verdict=SubmitVerdict.NOT_SENT) if is_doubt else judged


def _not_sent_if_5xx(*args: Any, **named: Any) -> Judgement:  # noqa: ANN401  # as `judge`
    return (_as_not_sent if isinstance(args[1], ServerError) else judge)(*args, **named)


def _as_uncertain(*args: Any, **named: Any) -> Judgement:  # noqa: ANN401  # as `judge`
    judged = judge(*args, **named)
    is_not_sent = judged.verdict is SubmitVerdict.NOT_SENT
    return attrs.evolve(judged, verdict=SubmitVerdict.UNCERTAIN) if is_not_sent else judged


def _without_candidate(*args: Any, **named: Any) -> Judgement:  # noqa: ANN401  # as `judge`
    return attrs.evolve(judge(*args, **named), candidate=None)


def _after_nothing(entry: Entry, event: events.JobEvent) -> Entry:
    """A journal that never asks for SENDING."""
    if entry.state is JobState.QUEUED and not isinstance(event, events.CalledBack):
        entry = after(entry, events.Sending(key=KEY, at=AT, attempt=1))
    return after(entry, event)


def _again_always(entry: Entry, *, policy: str) -> bool:
    return entry.state is JobState.UNCERTAIN


def _never(entry: Entry) -> bool:
    return False


def _is_in_doubt_or_queued(entry: Entry) -> bool:
    return leftovers.is_to_submit(entry) or entry.state is JobState.SENDING


def bug(budgets: Budgets, breaks: Mapping[str, int], *, more: Any = None, **rules: Any) -> Bug:  # noqa: ANN401
    """A bug by the rules that it replaces."""
    return Bug(Model(budgets, rules=Rules(**rules), **(more or {})), breaks)


CRASH: Final = Budgets(runs=2, crashes=1)
LOSS: Final = Budgets(runs=1, crashes=0, losses=2)
CALL: Final = Budgets(runs=2, crashes=1, calls=1)

BUGS: Final[Mapping[str, Bug]] = {
    "sent again though a callback has named its task": bug(
        Budgets(runs=1, crashes=0, losses=1, calls=1),
        {"a record is refused": 13, "told otherwise than noted": 13},
        more={"policy": "resubmit"},
        holds=False,
    ),
    "no SENDING record": bug(
        CRASH,
        {"posted without a record": 2, "two tasks of one attempt": 7, "paid twice": 7},
        after=_after_nothing,
        records_sending=False,
    ),
    "SENDING not durable": bug(
        CRASH,
        {"posted without a record": 3, "two tasks of one attempt": 9, "paid twice": 9},
        syncs_sending=False,
    ),
    "retry on a read timeout": bug(
        LOSS, {"two tasks of one attempt": 7, "paid twice": 7}, resends=frozenset({"none"})
    ),
    "retry on 5xx": bug(LOSS._replace(faults=1), {"paid twice": 10}, judge=_not_sent_if_5xx),
    "uncertain taken for not sent": bug(LOSS, {"paid twice": 10}, judge=_as_not_sent),
    "not sent taken for uncertain": bug(
        LOSS._replace(faults=1), {"a doubt without need": 6}, judge=_as_uncertain
    ),
    "shown before ACCEPTED is durable": bug(CRASH, {"a known id is lost": 6}, shows_late=False),
    "resubmit on resume": bug(CRASH, {"paid twice": 15}, is_to_submit_again=_again_always),
    "SENDING taken for queued on resume": bug(
        CRASH,
        {"a record is refused": 6, "told otherwise than noted": 6},
        doubt_after_crash=lambda _: None,
        is_to_submit=_is_in_doubt_or_queued,
    ),
    "the id in a damaged reply dropped": bug(
        LOSS, {"a doubt without need": 6}, judge=_without_candidate
    ),
    "a callback's id believed": bug(
        CALL._replace(forgeries=1), {"a task that is not there": 9}, asks=False
    ),
    "a callback answered before it is durable": bug(
        CALL, {"a known id is lost": 6}, acks_late=False
    ),
    "a late callback not recorded": bug(CALL, {"a known id is lost": 10}, hears_late=False),
    "a recorded callback ignored on resume": bug(
        CALL, {"evidence leads to nothing": 9}, may_be_called_back=_never
    ),
    "a candidate that could not be asked about taken for denied": bug(
        LOSS._replace(runs=2),
        {"paid twice": 15},
        more={"policy": "resubmit"},
        is_denied=lambda *, is_there, **_: not is_there,
    ),
    "a candidate ignored when its job is resumed": bug(
        CRASH._replace(losses=1), {"evidence leads to nothing": 9}, open_candidate=lambda _: None
    ),
    "retries counted per run": bug(
        CRASH._replace(failures=2),
        {"too many retries": 26},
        more={"retries": 1},
        repeats=lambda _: 0,
    ),
    "earlier runs left out of the cap": bug(
        CRASH._replace(losses=1),
        {"above the cap": 14},
        more={"policy": "resubmit", "cap": 1},
        charges=lambda _: 0,
    ),
}
