"""Header values and foreign text, read without trusting them."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

EXCERPT_CHARACTERS: Final = 2_000

_TAGS: Final = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
TASK_ID_MAX: Final = 512
# No repetition can be split in two ways and each is bounded, so that hostile text costs no more
# than its length.
_TASK_ID_IN_JSON: Final = re.compile(
    r'"taskId"[ \t\r\n]*:[ \t\r\n]*(?:'
    r'(?P<text>"(?:[^"\\]|\\.){1,512}")'
    r"|(?P<number>-?[0-9]{1,512})(?=[ \t\r\n]*[,}\]])"
    r'|(?P<cut>(?:"(?:[^"\\]|\\.){1,512}\\?|-?[0-9]{1,512})\Z))',
    re.DOTALL,
)


def excerpt(body: bytes) -> str:
    """The beginning of a body as one line of printable text, without markup."""
    text = body[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace")
    if text.lstrip()[:1] == "<":
        import html  # noqa: PLC0415  # its table of entities is large and such pages are rare

        text = html.unescape(_TAGS.sub(" ", text))
    printable = text
    if not text.isprintable():
        printable = "".join(mark if mark.isprintable() else " " for mark in text)
    return " ".join(printable.split())[:EXCERPT_CHARACTERS].rstrip()


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds from a `Retry-After` header: a number or an HTTP date; `None` for anything else.

    Negative, infinite and malformed values and dates in the past count as absent. Limits on how
    long to really wait are the gate's business.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    moment = http_date(text)
    seconds = 0.0 if moment is None else (moment - now).total_seconds()
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def http_date(value: str | None) -> datetime | None:
    """The moment of a `Date` header in UTC; `None` for anything that is no date."""
    try:
        moment = parsedate_to_datetime((value or "").strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def candidate_task_id(received: str) -> str | None:
    """A complete task id inside a broken answer: a hint to be confirmed by a status call."""
    found, _ = task_ids_in(received)
    return found[0] if len(found) == 1 else None


def task_ids_in(received: str) -> tuple[tuple[str, ...], str | None]:
    """All different task ids in an answer however broken, and the beginning of one cut off.

    Ids are read as `read_task_id` reads them: numbers count, escapes are undone.
    """
    found: dict[str, None] = {}
    cut = None
    for match in _TASK_ID_IN_JSON.finditer(received):
        cut = match["cut"]
        value = match["number"] if match["text"] is None else _unescaped(match["text"])
        if value is not None and is_task_id(value):
            found[value if match["text"] else str(int(value))] = None
    return tuple(found), cut if cut is None else cut.removeprefix('"')


def is_task_id(value: str) -> bool:
    """Whether a text can be relied on as an id: asked for, shown and written down."""
    is_plain = value.isprintable() and not any(map(str.isspace, value))
    return is_plain and 0 < len(value) <= TASK_ID_MAX


def _unescaped(text: str) -> str | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
