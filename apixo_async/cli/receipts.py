"""Receipts: what a journal says of each job, as JSON lines or as a table; pure texts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from apixo_async._narrow import as_mapping
from apixo_async.batch.journal.entries import Entry, JobState, text_of
from apixo_async.batch.journal.overview import standing
from apixo_async.batch.journal.tally import expiry_of, failure_of, seconds_of
from apixo_async.cli.results import file_as_json
from apixo_async.downloads import SavedFile

FIELDS: Final = (
    "key",
    "prompt_sha256",
    "fingerprint",
    "seed",
    "model",
    "mode",
    "status",
    "state",
    "task_id",
    "queued_at",
    "sending_at",
    "accepted_at",
    "ended_at",
    "seconds",
    "attempts",
    "charges",
    "fail_code",
    "reason",
    "urls",
    "expires_at",
    "files",
    "metadata",
)
"""The fields of every receipt in their order; a prompt comes after the key if it is asked for."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What spreadsheets take for the start of a formula, or skip to find one."""


def fields(*, prompts: bool) -> tuple[str, ...]:
    """The names of a receipt's fields."""
    return (FIELDS[0], "prompt", *FIELDS[1:]) if prompts else FIELDS


def receipt(
    entry: Entry, files: Sequence[SavedFile], *, is_owned: bool, prompts: bool
) -> dict[str, Any]:
    """All of a job that is worth keeping; every field is always there, `null` is what is not known.

    Times are UTC, `seconds` are from acceptance to end, `prompt_sha256` is of the prompt's UTF-8.
    """
    asked = as_mapping(json.loads(entry.request).get("input")) or {}
    prompt = asked.get("prompt")
    task = entry.snapshot()
    has_succeeded = entry.state is JobState.SUCCEEDED
    expiry = expiry_of(entry, task) if has_succeeded else None
    fail_code, reason = (None, None) if has_succeeded else _why(entry)
    values = {
        "key": entry.key,
        "prompt": prompt,
        "prompt_sha256": _sha256(prompt) if isinstance(prompt, str) else None,
        "fingerprint": entry.fingerprint,
        "seed": asked.get("seed"),
        "model": entry.model,
        "mode": entry.mode,
        "status": str(standing(entry.state, is_owned=is_owned)),
        "state": str(entry.state),
        "task_id": entry.task_id,
        "queued_at": entry.queued_at,
        "sending_at": entry.sending_at,
        "accepted_at": entry.accepted_at,
        "ended_at": entry.ended_at,
        "seconds": seconds_of(entry),
        "attempts": entry.attempts,
        "charges": entry.charges,
        "fail_code": fail_code,
        "reason": reason,
        "urls": [] if task is None or not has_succeeded else list(task.urls),
        "expires_at": None if expiry is None else expiry.isoformat(),
        "files": [file_as_json(file) for file in files],
        "metadata": json.loads(entry.metadata),
    }
    return {name: values[name] for name in fields(prompts=prompts)}


def _why(entry: Entry) -> tuple[str | None, str | None]:
    """Code and reason of what is no success; nothing for a job that simply goes on."""
    if entry.note is None and entry.state is not JobState.FAILED:
        return None, None
    return failure_of(entry)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# Formats


def json_lines(receipts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One JSON object a line, in ASCII: some readers take U+2028 in a prompt for a line's end."""
    for one in receipts:
        yield f"{json.dumps(one)}\n"


def csv_rows(receipts: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """A table with a header, one row a job; lists and objects are JSON in their cells.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    yield buffer.getvalue()
    for one in receipts:
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_cell(one[name]) for name in names])
        yield buffer.getvalue()


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return harmless(value)
    return value if isinstance(value, (int, float)) else text_of(value)


def harmless(text: str) -> str:
    """Text for a cell; with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
