"""One job as the page knows it: a short list of plain values, safe to show and to link to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from apixo_async._narrow import as_mapping
from apixo_async.batch.journal import Entry, JobState
from apixo_async.batch.journal.overview import Standing, standing
from apixo_async.batch.journal.tally import expiry_of, failure_of, seconds_of
from apixo_async.batch.report.advice import Commands
from apixo_async.downloads import SavedFile
from apixo_async.tasks import Task

TEXT_MAX: Final = 10_000
"""Characters of a prompt that are shown: the most that Veo's may have."""
NOTE_MAX: Final = 2_000
"""Of reasons, metadata and other fields."""
URL_MAX: Final = 4_096

_HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
_STANDINGS: Final = tuple(Standing)


def cut(text: str, most: int = NOTE_MAX) -> str:
    """The text, at most so long."""
    return text if len(text) <= most else f"{text[:most]}\N{HORIZONTAL ELLIPSIS}"


def origin_of(url: str) -> str | None:
    """Scheme and host of a web address that may become a link; `None` for anything else."""
    if len(url) > URL_MAX or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_web = parts.scheme in {"http", "https"} and _HOST.fullmatch(parts.netloc) is not None
    return f"{parts.scheme}://{parts.netloc}" if is_web else None


def path_url(path: Path, page: Path) -> str:
    """A saved file as the page at the directory `page` reaches it, whatever its name is."""
    try:
        relative = os.path.relpath(path, page)
    except ValueError:  # another drive
        return path.absolute().as_uri()
    # A colon is quoted as well, so that no name looks like a scheme.
    return quote(os.fsencode(relative.replace(os.sep, "/")), safe="/")


class RowMaker:
    """Makes rows, and remembers what they need of the page: kinds, reasons, hosts of results."""

    def __init__(
        self,
        page: Path,
        *,
        now: datetime,
        is_owned: bool,
        commands: Commands,
        group_of: Callable[[Entry], int],
    ) -> None:
        self._page = page
        self._now = now
        self._is_owned = is_owned
        self._commands = commands
        self._group_of = group_of
        self._kinds: dict[tuple[str, str | None], int] = {}
        self.origins: set[str] = set()

    @property
    def kinds(self) -> list[tuple[str, str | None]]:
        """Models and modes in the order of their numbers in rows."""
        return list(self._kinds)

    def row(self, entry: Entry, files: Sequence[SavedFile]) -> list[Any]:
        """What the page shows of a job, in the order that its script knows."""
        task = entry.snapshot()
        where = standing(entry.state, is_owned=self._is_owned)
        asked = dict(as_mapping(json.loads(entry.request).get("input")) or {})
        prompt = asked.pop("prompt", "")
        seconds = seconds_of(entry) if where is Standing.SUCCEEDED else None
        media, expires = self._media(entry, task, files, where)
        has_failed = where is Standing.FAILED
        metadata = "" if entry.metadata == "{}" else entry.metadata
        return [
            entry.key,
            cut(prompt if isinstance(prompt, str) else json.dumps(prompt), TEXT_MAX),
            self._kinds.setdefault((entry.model, entry.mode), len(self._kinds)),
            _STANDINGS.index(where),
            None if seconds is None else round(seconds, 1),
            _epoch(entry.ended_at or entry.accepted_at or entry.queued_at),
            media,
            expires,
            entry.task_id,
            cut(_note_of(entry, where)),
            self._group_of(entry) if has_failed else -1,
            cut(json.dumps(asked, ensure_ascii=False)) if asked else "",
            cut(metadata),
            [[one.does, one.line] for one in self._commands.about(entry)] if has_failed else [],
        ]

    def _media(
        self, entry: Entry, task: Task | None, files: Sequence[SavedFile], where: Standing
    ) -> tuple[list[str], int | None]:
        """Where its results can be played from, and when those addresses end, if they do."""
        if where is not Standing.SUCCEEDED:
            return [], None
        if there := [file.path for file in files if file.path.is_file()]:
            return [path_url(path, self._page) for path in there], None
        expiry = expiry_of(entry, task)
        expires = None if expiry is None else int(expiry.timestamp())
        urls = () if task is None or (expiry is not None and expiry <= self._now) else task.urls
        found = {url: origin for url in urls if (origin := origin_of(url)) is not None}
        self.origins.update(found.values())
        return list(found), expires


def _note_of(entry: Entry, where: Standing) -> str:
    if where is Standing.SUCCEEDED or (entry.note is None and entry.state is not JobState.FAILED):
        return ""
    return ": ".join(part for part in failure_of(entry) if part)


def _epoch(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())
