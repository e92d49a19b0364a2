"""A batch's input file: JSONL, CSV or plain text, checked as a whole before anything is sent.

Files are read anew for each purpose and never held, so that a million rows cost no memory.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Self, TextIO, TypeAlias, TypeGuard

import attrs

from apixo_async._wire import ROW_FIELDS, request_from_row
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job
from apixo_async.errors import InvalidRequestError
from apixo_async.veo import TextToVideo

Format: TypeAlias = Literal["jsonl", "csv", "text"]
Rules: TypeAlias = list[tuple[str, str]]
"""Broken rules as (field, rule); the field is empty where the line as a whole is meant."""

_SUFFIXES: Final[Mapping[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
}
COLUMNS: Final = ROW_FIELDS | {"key", "metadata", "model", "input"}
_JSON_COLUMNS: Final = frozenset({"metadata", "input", "extra_input"})
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
class _Row:
    """What one line holds: fields, or the rules that it breaks as a line, or both."""

    line: int
    fields: Mapping[str, Any] | None
    rules: Rules = attrs.field(factory=list[tuple[str, str]])


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

    def problems(self) -> Iterator[Problem]:
        """Reads the whole file and yields every broken rule of every line.

        Raises `OSError` if the file cannot be read.
        """
        jobs = 0
        keys = KeyIndex()
        with contextlib.closing(keys):
            row = None
            for row in self._rows():
                job, rules = _job(row)
                if job is not None:
                    jobs += 1
                    rules = _conflict(keys, job, row.line)
                yield from (Problem(row.line, field, rule) for field, rule in rules)
            if row is None:
                yield Problem(1, "", "holds no jobs")
        self._jobs = jobs

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

    def _rows(self) -> Iterator[_Row]:
        with self._open() as file:
            yield from _READERS[self.format](file)

    def __repr__(self) -> str:
        return f"<JobFile {self.name!r} {self.format}>"


# From rows to jobs


def _job(row: _Row) -> tuple[Job | None, Rules]:
    """The job of a row, or every rule that the row breaks."""
    if row.fields is None:
        return None, row.rules
    given = {name: value for name, value in row.fields.items() if value is not None}
    key, metadata = given.pop("key", None), given.pop("metadata", {})
    rules = [*row.rules, *_key_rules(key)]
    if not _is_object(metadata):
        rules.append(("metadata", "must be a JSON object"))
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


def _conflict(keys: KeyIndex, job: Job, line: int) -> Rules:
    """Whether an earlier line has the same key."""
    try:
        claimed = keys.claim(job, place=line)
    except InvalidRequestError:
        what = "another request; give every job a key of its own"
    else:
        if claimed is not None:
            return []
        what = "the same request; leave one out, or give it a key of its own to pay for both"
    return [("key", f"{job.key!r} was used in line {keys.place_of(job.key or '')} for {what}")]


# From text to rows

_NOT_UTF8: Final = ("", "is not UTF-8; save the file as UTF-8")


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\udc80" <= character <= "\udcff" for character in text)


def _text_rows(file: TextIO) -> Iterator[_Row]:
    for number, line in enumerate(file, 1):
        prompt = line.strip()
        if not _is_utf8(prompt):
            yield _Row(number, None, [_NOT_UTF8])
        elif prompt:
            yield _Row(number, {"prompt": prompt})


def _jsonl_rows(file: TextIO) -> Iterator[_Row]:
    for number, line in enumerate(file, 1):
        if not _is_utf8(line):
            yield _Row(number, None, [_NOT_UTF8])
        elif line.strip():
            yield _json_row(number, line)


def _json_row(number: int, line: str) -> _Row:
    twice: list[str] = []
    try:
        value = _read_json(line, twice)
    except ValueError as error:
        hint = "; write one object a line" if line.lstrip()[:1] in {"[", "{"} else ""
        return _Row(number, None, [("", f"is not JSON: {error}{hint}")])
    if not _is_object(value):
        rule = f"must be a JSON object with a prompt, got {type(value).__name__}"
        return _Row(number, None, [("", rule)])
    return _Row(number, value, [(name, "is given twice") for name in twice])


def _read_json(text: str, twice: list[str]) -> Any:  # noqa: ANN401  # a value of JSON
    """The value; `twice` gets the names that an object has more than once. Raises `ValueError`."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            names = [name for name, _ in pairs]
            twice.extend(sorted({name for name in names if names.count(name) > 1}))
        return built

    try:
        return json.loads(text, object_pairs_hook=build, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        # Its own text counts lines, and here there is only one.
        msg = f"{error.msg} (character {error.pos + 1})"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "it is nested too deeply"
        raise ValueError(msg) from None


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _refuse_constant(name: str) -> None:
    msg = f"{name} does not exist in JSON"
    raise ValueError(msg)


def _csv_rows(file: TextIO) -> Iterator[_Row]:
    table = csv.reader(file, strict=True)
    header: list[str] = []
    while True:
        line = table.line_num + 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield _Row(line, None, [("", f"is not CSV: {error}")])
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if header:
            yield _csv_row(line, header, cells)
            continue
        header = [cell.strip() for cell in cells]
        if rules := _header_rules(header):
            yield _Row(line, None, rules)
        if not {"prompt", "input"} & set(header):
            return  # every row would only repeat what is wrong with the header


def _header_rules(header: list[str]) -> Rules:
    rules: Rules = []
    if not {"prompt", "input"} & set(header):
        hint = " (columns are separated by commas)" if len(header) == 1 else ""
        rules.append(("", f"the header must have a column 'prompt'{hint}"))
    columns = ", ".join(sorted(COLUMNS))
    for name in sorted(set(header) - COLUMNS):
        rules.append((name or "header", f"is no column of this format; these are: {columns}"))
    twice = {name for name in header if header.count(name) > 1}
    return [*rules, *((name, "is a column twice") for name in sorted(twice))]


def _csv_row(line: int, header: list[str], cells: list[str]) -> _Row:
    if not all(map(_is_utf8, cells)):
        return _Row(line, None, [_NOT_UTF8])
    if len(cells) != len(header):
        rule = f"has {len(cells)} cells, but the header has {len(header)}"
        return _Row(line, None, [("", rule)])
    rules: Rules = []
    fields: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        # Unknown columns were named once, at the header.
        if name in COLUMNS and cell.strip():
            fields[name] = _cell_value(name, cell, rules)
    return _Row(line, fields, rules)


def _cell_value(name: str, cell: str, rules: Rules) -> Any:  # noqa: ANN401  # a value of JSON
    """What a cell means in its column; a cell that cannot be read adds to `rules`."""
    if name == "prompt":
        return cell
    text = cell.strip()
    if name == "seed" and re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if name == "image_urls" and not text.startswith("["):
        return text.split()
    if name not in _JSON_COLUMNS and name != "image_urls":
        return text
    try:
        return _read_json(text, [])
    except ValueError as error:
        rules.append((name, f"is not JSON: {error}"))
        return None


_READERS: Final[Mapping[Format, Callable[[TextIO], Iterator[_Row]]]] = {
    "jsonl": _jsonl_rows,
    "csv": _csv_rows,
    "text": _text_rows,
}
