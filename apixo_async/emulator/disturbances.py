"""What each fault of an answer turns that answer into."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from apixo_async.emulator.replies import (
    TEXT,
    Manner,
    Reply,
    as_http_200,
    bad_gateway,
    error,
    success,
)

RETRY_AFTER = 5.0
"""API seconds that an injected Retry-After asks for."""

SUBMIT_CODES = (400, 402, 429, 500)
STATUS_CODES = (429, 500, 503)
"""Codes that come inside HTTP 200."""

_MANNERS = {
    "submit_cut_before": Manner.CUT,
    "submit_cut_after": Manner.CUT,
    "status_cut": Manner.CUT,
    "submit_drip_after": Manner.DRIP,
    "status_drip": Manner.DRIP,
    "submit_truncated_json_after": Manner.TRUNCATED,
    "status_truncated_json": Manner.TRUNCATED,
    "submit_partial_after": Manner.PARTIAL,
    "short_download": Manner.PARTIAL,
    "huge_body": Manner.HUGE,
    "gzip_bomb": Manner.GZIP_BOMB,
}


@attrs.frozen
class Circumstances:
    """What a disturbance needs to know about the request besides its true answer."""

    path: str = "/"
    retry_after: str = "5"
    """Real seconds as text, ready for the header."""
    previous_task: str | None = None
    """The task accepted before the one that was just accepted."""
    choice: float = 0.0
    """In [0, 1); chooses among several codes."""


def _one_of(codes: tuple[int, ...], around: Circumstances) -> Reply:
    return as_http_200(error(codes[int(around.choice * len(codes))]))


def _redirect(around: Circumstances) -> Reply:
    headers = {"Location": f"/redirected{around.path}"}
    return Reply(status=307, content_type=TEXT, headers=headers, code=307)


_REPLACEMENTS: Mapping[str, Callable[[Circumstances], Reply]] = {
    "submit_429": lambda _: error(429),
    "status_429": lambda _: error(429),
    "submit_429_retry_after": lambda it: error(429, headers={"Retry-After": it.retry_after}),
    "status_429_retry_after": lambda it: error(429, headers={"Retry-After": it.retry_after}),
    "submit_503_before": lambda _: error(503),
    "status_503": lambda _: error(503),
    "download_503": lambda _: error(503),
    "download_403": lambda _: error(403, "Access denied"),
    "submit_500_after": lambda _: error(500),
    "submit_502_html_before": lambda _: bad_gateway(),
    "submit_502_html_after": lambda _: bad_gateway(),
    "status_502_html": lambda _: bad_gateway(),
    "download_html": lambda _: as_http_200(bad_gateway()),
    "error_in_200": lambda it: _one_of(SUBMIT_CODES, it),
    "status_error_in_200": lambda it: _one_of(STATUS_CODES, it),
    "redirect_307": _redirect,
    "no_task_id": lambda _: success({}),
}


def disturb(fault: str, reply: Reply, around: Circumstances) -> Reply:
    """Return what goes out instead of *reply* when *fault* hits."""
    if fault == "duplicate_task_id":
        # The first task of all has none before it: its answer stays true.
        return success({"taskId": around.previous_task}) if around.previous_task else reply
    if fault == "download_no_range":
        # What is sent whole is decided before: here it only says that it cannot be otherwise.
        return attrs.evolve(reply, headers={**reply.headers, "Accept-Ranges": "none"})
    if fault in _MANNERS:
        return attrs.evolve(reply, manner=_MANNERS[fault])
    return _REPLACEMENTS[fault](around)


def seconds_text(seconds: float) -> str:
    """Return *seconds* for a Retry-After header: whole where possible, never negative."""
    seconds = max(0.0, seconds)
    return str(int(seconds)) if seconds == int(seconds) else f"{seconds:.3f}"
