"""Everything that can be made to go wrong, by name, and the choice of whom it hits.

Each fault belongs to one stage, the moment at which it is drawn:

``BEFORE``    a submit has arrived; nothing is accepted or billed
``AFTER``     a submit has been accepted and billed; only the answer suffers
``STATUS``    a status request has arrived
``TASK``      a task has just been accepted: the fault stays with it for life
``FILE``      a result file has been asked for
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import cast

import attrs

from apixo_async.emulator.draws import unit


class Stage(enum.Enum):
    """The moment at which a fault is drawn."""

    BEFORE = enum.auto()
    AFTER = enum.auto()
    STATUS = enum.auto()
    TASK = enum.auto()
    FILE = enum.auto()


_B, _A, _S, _T, _F = Stage.BEFORE, Stage.AFTER, Stage.STATUS, Stage.TASK, Stage.FILE

_TABLE: Mapping[str, tuple[tuple[Stage, ...], str]] = {
    "submit_429": ((_B,), "a submit is refused with 429"),
    "submit_429_retry_after": ((_B,), "a submit is refused with 429 and Retry-After"),
    "submit_503_before": ((_B,), "a submit is refused with 503"),
    "submit_502_html_before": ((_B,), "a submit gets a 502 HTML page and is not taken"),
    "submit_cut_before": ((_B,), "the connection ends before a submit is taken"),
    "error_in_200": ((_B,), "a submit is refused with code 400, 402, 429 or 500 inside HTTP 200"),
    "redirect_307": ((_B, _S), "an API call is redirected to another path of this host"),
    "submit_502_html_after": ((_A,), "a submit is taken, then gets a 502 HTML page"),
    "submit_cut_after": ((_A,), "a submit is taken, then the connection ends without an answer"),
    "submit_500_after": ((_A,), "a submit is taken, then answered with 500"),
    "submit_drip_after": ((_A,), "a submit is taken, the answer trickles in over drip_seconds"),
    "submit_truncated_json_after": ((_A,), "a submit is taken, the answer is half of its JSON"),
    "submit_partial_after": ((_A,), "a submit is taken, the connection ends within the answer"),
    "no_task_id": ((_A,), "a submit is taken, the answer holds no taskId"),
    "duplicate_task_id": ((_A,), "a submit is taken, the answer names the task accepted before it"),
    "huge_body": ((_A, _S), "the answer to an API call is valid JSON of 16 MiB"),
    "gzip_bomb": ((_A, _S), "the answer to an API call is small, and 32 MiB once unpacked"),
    "status_429": ((_S,), "a status request is refused with 429"),
    "status_429_retry_after": ((_S,), "a status request is refused with 429 and Retry-After"),
    "status_503": ((_S,), "a status request is answered with 503"),
    "status_502_html": ((_S,), "a status request gets a 502 HTML page"),
    "status_cut": ((_S,), "the connection ends without an answer to a status request"),
    "status_drip": ((_S,), "the answer to a status request trickles in over drip_seconds"),
    "status_truncated_json": ((_S,), "the answer to a status request is half of its JSON"),
    "status_error_in_200": ((_S,), "a status request gets code 429, 500 or 503 inside HTTP 200"),
    "early_404": ((_T,), "a task is unknown to status requests for its first 10 s"),
    "processing_r2": ((_T,), "a task ends its run in the undocumented state processing_r2"),
    "unknown_state": ((_T,), "a running task is in states that no document names"),
    "missing_fields": ((_T,), "a finished task has neither createTime nor costTime"),
    "result_object": ((_T,), "resultJson is an object instead of a string"),
    "result_broken": ((_T,), "resultJson is a string that is not JSON"),
    "result_empty": ((_T,), "resultJson holds an empty list of URLs"),
    "never_ending": ((_T,), "a task stays in processing and keeps its slot"),
    "failed_task": ((_T,), "a task fails with GENERATION_FAILED"),
    "content_violation": ((_T,), "a task fails with CONTENT_VIOLATION"),
    "invalid_image_url": ((_T,), "a task fails with INVALID_IMAGE_URL"),
    "callback_lost": ((_T,), "the callback is never sent"),
    "callback_doubled": ((_T,), "the callback is sent twice"),
    "callback_early": ((_T,), "the task ends at once, the callback precedes the submit's answer"),
    "callback_forged": ((_T,), "two made-up callbacks come first: a foreign result, a damaged URL"),
    "callback_reordered": ((_T,), "a callback with state processing follows the final one"),
    "short_download": ((_F,), "a file ends before its Content-Length is reached"),
    "download_503": ((_F,), "a file is answered with 503"),
    "download_403": ((_F,), "a file is answered with 403, as by a signature that has run out"),
    "download_no_range": ((_F,), "a file is sent whole, whatever range of it was asked for"),
    "download_html": ((_F,), "a file is an HTML page with status 200"),
}  # fmt: skip

FAULTS: Mapping[str, str] = MappingProxyType({name: text for name, (_, text) in _TABLE.items()})
"""Every fault's name and what it does, in one line."""


def read_rates(given: object) -> dict[str, float]:
    """Return rates by name; ValueError for anything but known names with rates from 0 to 1."""
    if not isinstance(given, Mapping):
        raise ValueError(f"faults must be rates by name, not {given!r}")  # noqa: TRY004 - from JSON
    rates: dict[str, float] = {}
    for name, rate in cast("Mapping[object, object]", given).items():
        if not isinstance(name, str) or name not in FAULTS:
            raise ValueError(f"faults must be names from FAULTS, not {name!r}")
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise ValueError(f"faults must have rates from 0 to 1: {name} has {rate!r}")
        rates[name] = rate
    return rates


@attrs.frozen
class FaultPlan:
    """Which faults are on, how often, and the seed that decides whom they hit."""

    seed: int
    by_stage: Mapping[Stage, tuple[tuple[str, float], ...]]
    """Only what is on: most runs have none, and a status request must not pay for them."""

    @classmethod
    def from_rates(cls, seed: int, rates: Mapping[str, float]) -> FaultPlan:
        """Sort *rates* by stage, within a stage in the table's order."""
        on = [name for name in _TABLE if rates.get(name, 0) > 0]
        return cls(
            seed,
            {
                stage: tuple((name, rates[name]) for name in on if stage in _TABLE[name][0])
                for stage in Stage
            },
        )

    def first(self, stage: Stage, subject: str, attempt: int) -> str | None:
        """Return the one fault that hits this *attempt*, the first in the table's order."""
        return next(self._hits(stage, subject, attempt), None)

    def every(self, stage: Stage, subject: str, attempt: int) -> frozenset[str]:
        """Return all faults that hit, for a stage where they can come together."""
        return frozenset(self._hits(stage, subject, attempt))

    def _hits(self, stage: Stage, subject: str, attempt: int) -> Iterator[str]:
        for name, rate in self.by_stage[stage]:
            if unit(self.seed, name, subject, attempt) < rate:
                yield name
