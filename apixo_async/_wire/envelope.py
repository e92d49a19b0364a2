"""Answers of the API to plain data or one typed error.

The API wraps everything in `{"code", "message", "data"}`. Its pages do not say whether an error
comes with HTTP 4xx or inside HTTP 200 (both are seen), so status and code are both judged.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import attrs

from apixo_async._narrow import NESTING_MAX, as_mapping, is_nested_too_deeply
from apixo_async._wire.text import excerpt, retry_after_seconds
from apixo_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitedError,
    ServerError,
    UnexpectedAnswerError,
)

quick_loads: Callable[[str | bytes], object] | None
try:
    from orjson import loads as quick_loads
except ImportError:  # the extra `speed` is not installed
    quick_loads = None

_decode: Final = json.JSONDecoder().decode  # `json.loads` asks for its options first, each time

OK: Final = 200
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@attrs.frozen(slots=False)  # with slots, building one costs three times as much
class Reply:
    """One HTTP answer, read to its end.

    `retry_after` is the header of that name and `received_at` the time to which it relates;
    `sent_at` is when the server says that it answered, read for submits only.
    """

    status: int
    body: bytes
    retry_after: str | None = None
    received_at: datetime = _LONG_AGO
    sent_at: datetime | None = None


@attrs.frozen
class Envelope:
    """The API's wrapper; `code` is `None` where it is missing or no number."""

    code: int | None
    message: str
    data: object


def parse_json(text: str | bytes) -> object:
    """JSON to plain data; `ValueError` for everything that is not JSON, however hostile.

    What is nested deeper than `NESTING_MAX` counts as no JSON: it could not be written down.

    Read by orjson where the extra `speed` brought it, five times as fast; what orjson refuses is
    given to the standard library, so that both installations accept the same. Whole numbers beyond
    64 bits are floats then.
    """
    value = _parsed(text)
    if _may_be_deep(text) and is_nested_too_deeply(value):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP: Final = "nested too deeply"


def _may_be_deep(text: str | bytes) -> bool:
    if len(text) <= 2 * NESTING_MAX:
        return False
    if isinstance(text, str):
        return text.count("[") + text.count("{") > NESTING_MAX
    return text.count(b"[") + text.count(b"{") > NESTING_MAX


def _parsed(text: str | bytes) -> object:
    if quick_loads is not None:
        try:
            return quick_loads(text)
        except ValueError:
            pass
    try:
        # JSON between systems is UTF-8 (RFC 8259); a byte order mark may be ignored.
        return _decode(text if isinstance(text, str) else text.removeprefix(BOM_UTF8).decode())
    except RecursionError:
        pass
    raise ValueError(_TOO_DEEP)


def parse_envelope(body: bytes) -> Envelope | None:
    """The envelope in a body, or `None` when the body is no JSON object."""
    return _envelope(_fields(body))


def _fields(body: bytes) -> Mapping[object, object] | None:
    try:
        return as_mapping(parse_json(body))
    except ValueError:
        return None


def _envelope(fields: Mapping[object, object] | None) -> Envelope | None:
    if fields is None:
        return None
    return Envelope(
        code=_code(fields.get("code")), message=_message(fields), data=fields.get("data")
    )


def _code(value: object) -> int | None:
    """The envelope's code; a number in a string is accepted, because nothing else can be meant."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,6}", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _message(fields: Mapping[object, object]) -> str:
    """What went wrong, wherever the API put it: beside the code or in `data.error`."""
    inner = (as_mapping(fields.get("data")) or {}).get("error")
    parts = [part for part in (fields.get("message"), inner or fields.get("error")) if part]
    texts = [part if isinstance(part, str) else json.dumps(part) for part in parts]
    return excerpt(": ".join(dict.fromkeys(texts)).encode("utf-8", "replace"))


def unwrap(reply: Reply) -> object:
    """The `data` of a successful answer.

    Raises an `APIError` for every answer that says so by status or code, `UnexpectedAnswerError`
    for one that is neither an error nor an envelope.
    """
    fields = _fields(reply.body)
    if fields is not None and fields.get("code") == reply.status == OK:
        return fields.get("data")
    code = _effective_code(reply.status, None if fields is None else _code(fields.get("code")))
    if code == OK and fields is not None:
        return fields.get("data")
    if code is None or _is_redirect(reply.status):
        raise _unexpected(reply)
    raise _error(reply, _envelope(fields), code)


def _effective_code(status: int, code: int | None) -> int | None:
    """The one number to judge by; `None` when a good status comes without any code.

    A 5xx status outweighs the envelope: what stands behind a failing gateway is not known. A 4xx
    status is refined by a 4xx or 5xx code. A 2xx status leaves the word to the envelope.
    """
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return code
    refinable = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return code if refinable and code is not None and code >= HTTPStatus.BAD_REQUEST else status


def _is_redirect(status: int) -> bool:
    return HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST


def _unexpected(reply: Reply) -> UnexpectedAnswerError:
    what = "redirects are not followed" if _is_redirect(reply.status) else "no answer of this API"
    return UnexpectedAnswerError(
        f"HTTP {reply.status}: {what}", http_status=reply.status, excerpt=excerpt(reply.body)
    )


# Whole words only: a `desktop upload` or a `casino fund` is no empty balance, and calling it one
# would stop a batch. Codes such as INSUFFICIENT_CREDITS may stand where a sentence does.
# Narrow on purpose: it stops a whole batch, and a refusal may quote any prompt.
# Compiled at the first refusal: importing this module would take three times as long.
_NO_CREDITS: Final = (
    r"(?i)\b(insufficient|not[ _]enough)[ _-]?(account |api |wallet )?(credits?|balance|funds)"
    r"|\b(credits?|balance|funds) (is |are )?(insufficient|not enough|exhausted)\b"
    r"|\bout of credits?\b"
)
_KEY_TROUBLE: Final = r"(?i)\b(api[ _-]?key|permission|unauthori[sz]ed)\b"

_BY_CODE: Final[Mapping[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: BadRequestError,
    404: NotFoundError,
    405: BadRequestError,
    413: BadRequestError,
    414: BadRequestError,
    415: BadRequestError,
    422: BadRequestError,
}


def _error(reply: Reply, envelope: Envelope | None, code: int) -> APIError:
    message = (envelope.message if envelope else "") or excerpt(reply.body) or _phrase(code)
    facts: dict[str, Any] = {
        "http_status": reply.status,
        "code": None if envelope is None else envelope.code,
        "data": None if envelope is None else envelope.data,
    }
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        wait = retry_after_seconds(reply.retry_after, now=reply.received_at)
        return RateLimitedError(message, retry_after=wait, **facts)
    return _class_of(code, message)(message, **facts)


def _class_of(code: int, message: str) -> type[APIError]:
    """The error class of a code.

    An empty balance is documented as 402 and as 400 "Insufficient credits"; 403 as "key lacks
    permission" on one page and "content violates policy" on another: the text decides.
    """
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError
    if code == HTTPStatus.BAD_REQUEST and re.search(_NO_CREDITS, message):
        return InsufficientCreditsError
    if code == HTTPStatus.FORBIDDEN and re.search(_KEY_TROUBLE, message):
        return AuthenticationError
    return _BY_CODE.get(code, APIError)


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "unknown error"
