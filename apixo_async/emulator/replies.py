"""Answers as values: what to send, and in what manner."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from apixo_async.emulator.clock import Clock
    from apixo_async.emulator.tasks import Task

JSON = "application/json"
HTML = "text/html"
TEXT = "text/plain"

BAD_GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)

MESSAGES = {
    400: "Invalid parameters or request error",
    401: "Invalid or missing API Key",
    402: "Insufficient balance",
    404: "Resource not found",
    405: "Method not allowed",
    429: "Rate limit exceeded",
    500: "Internal server error",
    503: "Service unavailable",
}

INSUFFICIENT = "Insufficient credits"


class Manner(enum.Enum):
    """How an answer goes over the wire."""

    PLAIN = enum.auto()
    CUT = enum.auto()
    """The connection ends without a byte."""
    DRIP = enum.auto()
    """A byte at a time."""
    TRUNCATED = enum.auto()
    """Half of the body, and HTTP has no complaint."""
    PARTIAL = enum.auto()
    """Half of the body that Content-Length announced, then the connection ends."""
    HUGE = enum.auto()
    """The same JSON behind 16 MiB of blanks."""
    GZIP_BOMB = enum.auto()
    """The same JSON behind 32 MiB of blanks, packed."""


@attrs.frozen
class Reply:
    """One answer."""

    body: bytes = b""
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    manner: Manner = Manner.PLAIN
    code: int = 200
    """The envelope's code."""


def success(data: object) -> Reply:
    """Return the envelope of everything that went well."""
    return Reply(_encode({"code": 200, "message": "success", "data": data}))


def error(
    code: int,
    message: str | None = None,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Return the envelope of an error; *status* is the HTTP status where it differs from *code*."""
    text = MESSAGES[code] if message is None else message
    body = _encode({"code": code, "message": text, "data": None})
    return Reply(body, status=status or code, headers=headers or {}, code=code)


def as_http_200(reply: Reply) -> Reply:
    """Return the same envelope under HTTP status 200."""
    return attrs.evolve(reply, status=int(HTTPStatus.OK))


def bad_gateway() -> Reply:
    """Return the page a proxy sends when it has lost the server behind it."""
    return Reply(BAD_GATEWAY_PAGE, status=502, content_type=HTML, code=502)


def as_json(value: object, status: int = 200) -> Reply:
    """Return plain JSON without an envelope, as the control endpoints speak it."""
    return Reply(json.dumps(value, indent=1).encode(), status=status)


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def status_data(task: Task, now: float, clock: Clock, urls: list[str]) -> dict[str, Any]:
    """Return ``data`` of a status answer: the fields of the documented samples, in their order."""
    state = task.state(now)
    data: dict[str, Any] = {"taskId": task.id, "state": state}
    if now >= task.ends_at:
        if task.failure:
            data["failCode"], data["failMsg"] = task.failure
            return data
        data["resultJson"] = _result(task, urls)
    data["createTime"] = clock.unix_ms(task.accepted_at)
    if now >= task.ends_at:
        milliseconds = round(task.duration * 1000)
        data["completeTime"] = data["createTime"] + milliseconds
        data["costTime"] = milliseconds
        if "missing_fields" in task.faults:
            del data["createTime"], data["costTime"]
    return data


def callback_data(task: Task, clock: Clock, urls: list[str]) -> dict[str, Any]:
    """Return ``data`` of the callback on a task's end.

    As in the samples, a failure carries its times here, which a status answer does not.
    """
    data = status_data(task, task.ends_at, clock, urls)
    if task.failure:
        data["createTime"] = clock.unix_ms(task.accepted_at)
        data["completeTime"] = data["createTime"] + round(task.duration * 1000)
    return data


def _result(task: Task, urls: list[str]) -> object:
    if "result_empty" in task.faults:
        urls = []
    result = {"resultUrls": urls}
    if "result_object" in task.faults:
        return result
    text = json.dumps(result, separators=(",", ":"))
    return text[: len(text) // 2] if "result_broken" in task.faults else text
