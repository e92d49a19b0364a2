"""What each fault of an answer turns that answer into."""

from __future__ import annotations

import attrs

from apixo_async.emulator.replies import (
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


def disturb(fault: str, reply: Reply, around: Circumstances) -> Reply:
    """Return what goes out instead of *reply* when *fault* hits."""
    if fault in _MANNERS:
        return attrs.evolve(reply, manner=_MANNERS[fault])
    match fault:
        case "submit_429" | "status_429":
            return error(429)
        case "submit_429_retry_after" | "status_429_retry_after":
            return error(429, headers={"Retry-After": around.retry_after})
        case "submit_503_before" | "status_503" | "download_503":
            return error(503)
        case "submit_500_after":
            return error(500)
        case "submit_502_html_before" | "submit_502_html_after" | "status_502_html":
            return bad_gateway()
        case "download_html":
            return attrs.evolve(bad_gateway(), status=200)
        case "error_in_200":
            return as_http_200(error(_one_of(SUBMIT_CODES, around.choice)))
        case "status_error_in_200":
            return as_http_200(error(_one_of(STATUS_CODES, around.choice)))
        case "redirect_307":
            return Reply(status=307, headers={"Location": f"/redirected{around.path}"}, code=307)
        case "no_task_id":
            return success({})
        case "duplicate_task_id":
            return success({"taskId": around.previous_task}) if around.previous_task else reply
        case _:
            raise ValueError(f"{fault} is not a fault of an answer")


def seconds_text(seconds: float) -> str:
    """Return *seconds* for a Retry-After header: whole where possible, never negative."""
    seconds = max(0.0, seconds)
    return str(int(seconds)) if seconds == int(seconds) else f"{seconds:.3f}"


def _one_of(codes: tuple[int, ...], choice: float) -> int:
    return codes[int(choice * len(codes))]
