"""A batch's input file: JSONL, CSV or plain text, checked as a whole before anything is sent.

Files are read anew for each purpose and never held, so that a million rows cost no memory.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TextIO

import attrs

from apixo_async._wire import request_from_row
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job
from apixo_async.batch.rows import READERS, Format, Row, Rules, is_object
from apixo_async.errors import InvalidRequestError
from apixo_async.veo import TextToVideo

_SUFFIXES: Final[Mapping[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
}
_ANY_REQUEST: Final = TextToVideo("any")


@attrs.frozen
class Problem:
    """One broken rule of an input file. `field` is empty where the whole line is meant."""

    line: int
    field: str
    rule: str

    def shown(self, name: str) -> str:
        """`name:line: field: rule`, as compilers show it and editors can follow it."""
        return ": ".join(part for part in (f"{name}:{self.line}", self.field, self.rule) if part)


@attrs.frozen
class Line:
    """What one line of an input file holds: a job with its key set, or all that is wrong."""

    number: int
    job: Job | None
    problems: tuple[Problem, ...] = ()


class JobFile(Iterable[Job]):
    """The jobs of a file, read lazily and anew by each iteration.

    `path` decides the format by its suffix: `.jsonl`, `.ndjson` and `.json` hold one JSON object a
    line, `.csv` a table with a header, anything else one prompt a line. `limit` takes only the
    first so many jobs; the check still covers the whole file. What is no regular file, such as a
    pipe, is copied to a temporary file first; leave the `with` block to delete that.

    Iterating raises `InvalidRequestError` at the first bad line; `problems()` tells them all.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, limit: int | None = None, name: str | None = None
    ) -> None:
        self.path = Path(path)
        self.name = name or str(path)
        """What problems call it."""
        self.limit = limit
        self._spool: Path | None = None
        self._jobs: int | None = None
        self.format: Format = _SUFFIXES.get(self.path.suffix.lower(), "text")
        if self.path.exists() and not self.path.is_file() and not self.path.is_dir():
            with self.path.open("rb") as pipe:
                self._take_over(pipe)

    @classmethod
    def from_stream(
        cls, stream: BinaryIO, *, limit: int | None = None, name: str = "stdin"
    ) -> Self:
        """The jobs of a stream: JSONL if its first character is `{`, else one prompt a line."""
        made = cls(os.devnull, limit=limit, name=name)
        made._take_over(stream)
        return made

    def _take_over(self, stream: BinaryIO) -> None:
        self.close()
        descriptor, spool = tempfile.mkstemp(prefix="apixo-input-")
        self._spool = self.path = Path(spool)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(stream, file)
        if self.format == "text":
            with self._open() as text:
                start = next((line.lstrip() for line in text if line.strip()), "")
            self.format = "jsonl" if start.startswith("{") else "text"

    def close(self) -> None:
        """Deletes the temporary copy, if there is one."""
        if self._spool is not None:
            self._spool.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lines(self) -> Iterator[Line]:
        """Reads the whole file, `limit` or not, and yields each line that is not blank, checked.

        Raises `OSError` if the file cannot be read.
        """
        jobs = 0
        keys = KeyIndex()
        with contextlib.closing(keys):
            line = None
            for row in self._rows():
                line = _line(row, keys)
                jobs += line.job is not None
                yield line
            if line is None:
                yield Line(1, None, (Problem(1, "", "holds no jobs"),))
        self._jobs = jobs

    def problems(self) -> Iterator[Problem]:
        """Reads the whole file and yields every broken rule of every line.

        Raises `OSError` if the file cannot be read.
        """
        for line in self.lines():
            yield from line.problems

    def check(self) -> None:
        """Raises `InvalidRequestError` with every broken rule of the file, if there is one."""
        found = [
            (f"line {bad.line}: {bad.field}".rstrip(": "), bad.rule) for bad in self.problems()
        ]
        if found:
            raise InvalidRequestError(self.name, found)

    def __iter__(self) -> Iterator[Job]:
        return itertools.islice(self._all_jobs(), self.limit)

    def _all_jobs(self) -> Iterator[Job]:
        for row in self._rows():
            job, rules = _job(row)
            if job is None:
                raise InvalidRequestError(f"{self.name}, line {row.line}", rules)
            yield job

    def __len__(self) -> int:
        """How many jobs an iteration gives; reads the file unless it has been checked."""
        if self._jobs is None:
            self.check()
        jobs = self._jobs or 0
        return jobs if self.limit is None else min(jobs, self.limit)

    def _open(self) -> TextIO:
        # Bytes that are no UTF-8 become lone surrogates: the reader goes on and the line is named.
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def _rows(self) -> Iterator[Row]:
        with self._open() as file:
            yield from READERS[self.format](file)

    def __repr__(self) -> str:
        return f"<JobFile {self.name!r} {self.format}>"


# From rows to jobs


def _line(row: Row, keys: KeyIndex) -> Line:
    """The job of a row unless an earlier line has its key, or every rule that is broken."""
    job, rules = _job(row)
    if job is not None:
        job, rules = _claimed(keys, job, row.line)
    return Line(row.line, job, tuple(Problem(row.line, field, rule) for field, rule in rules))


def _job(row: Row) -> tuple[Job | None, Rules]:
    """The job of a row, or every rule that the row breaks."""
    if row.fields is None:
        return None, row.rules
    given = {name: value for name, value in row.fields.items() if value is not None}
    key, metadata = given.pop("key", None), given.pop("metadata", {})
    rules = [*row.rules, *_key_rules(key)]
    if not is_object(metadata):
        rules.append(("metadata", "must be a JSON object"))
    elif not _can_be_written(metadata):
        rules.append(("metadata", "must hold no endless number and no half character"))
    try:
        request = request_from_row(given)
    except InvalidRequestError as error:
        known = {field for field, _ in rules}
        return None, [*rules, *(problem for problem in error.problems if problem[0] not in known)]
    return (None, rules) if rules else (Job(request, key=key, metadata=metadata), [])


def _key_rules(key: Any) -> Rules:  # noqa: ANN401  # a value of JSON
    """What is wrong with a key, by the rule that `Job` has for it."""
    try:
        Job(_ANY_REQUEST, key=key)
    except InvalidRequestError as error:
        return list(error.problems)
    return []


def _claimed(keys: KeyIndex, job: Job, line: int) -> tuple[Job | None, Rules]:
    """The job with its key, unless an earlier line has the same key."""
    try:
        claimed = keys.claim(job, place=line)
    except InvalidRequestError:
        what = "another request; give every job a key of its own"
    else:
        if claimed is not None:
            return claimed, []
        what = "the same request; leave one out, or give it a key of its own to pay for both"
    rule = f"{job.key!r} was used in line {keys.place_of(job.key or '')} for {what}"
    return None, [("key", rule)]


def _can_be_written(metadata: Mapping[str, object]) -> bool:
    """Whether it can be written down as it was read: `1e999` is read as infinity."""
    try:
        json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return True
