"""A watch over everything a test leaves behind: the API key may be in none of it.

All keys of the suite begin with `CANARY`, but for the emulator's own, `EMULATOR_KEY`. What is
looked at, after each test: log records of every level and logger, what the test and its children
printed, warnings, errors of ours that were expected, and the files of `tmp_path`.
"""

from __future__ import annotations

import base64
import gzip
import io
import logging
import os
import re
import stat
import subprocess
import traceback
from asyncio.subprocess import SubprocessStreamProtocol
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal
from urllib.parse import quote

import attrs
import pytest

CANARY: Final = "apx_CANARY"
EMULATOR_KEY: Final = "test-key"
MARKER: Final = "writes_key"

Place = Literal["files", "output", "log", "warnings", "errors"]

_PIECE: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_OURS: Final = re.compile(r"[/\\]apixo_async[/\\](?!emulator[/\\]|testing\.py)")


def _base64(word: bytes) -> Iterator[bytes]:
    """How base64 of any text with the word in it spells the word, at each of three offsets."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + word)
        whole = (offset + len(word)) * 8 // 6
        yield encoded[(offset * 8 + 5) // 6 : whole]


def spellings(word: str) -> frozenset[bytes]:
    """The word as it may stand in a file: plain, or encoded in a way that anybody can undo."""
    plain = word.encode()
    escaped = "".join(f"\\u{ord(mark):04x}" for mark in word)
    percent = "".join(f"%{byte:02x}" for byte in plain)
    found = {plain, quote(word, safe="").encode(), word.encode("utf-16-le"), escaped.encode()}
    found |= {percent.encode(), percent.upper().encode()}
    found |= {plain.hex().encode(), plain.hex().upper().encode(), plain[::-1]}
    for coded in _base64(plain):
        found |= {coded, coded.translate(bytes.maketrans(b"+/", b"-_"))}
    return frozenset(found)


NEEDLES: Final = spellings(CANARY) | spellings(EMULATOR_KEY)
_OVERLAP: Final = max(map(len, NEEDLES))


def holds_key(data: bytes | str) -> bool:
    """Whether a key is in it, in whatever spelling."""
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    return any(needle in data for needle in NEEDLES)


def file_holds_key(path: Path) -> bool:
    """The same for a file of any size, packed ones included."""
    with path.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        if _stream_holds_key(file):
            return True
        file.seek(0)
        try:
            return is_packed and _stream_holds_key(gzip.GzipFile(fileobj=file))
        except (EOFError, OSError):  # not packed after all, or cut
            return False


def _stream_holds_key(stream: IO[bytes] | gzip.GzipFile) -> bool:
    rest = b""
    while piece := stream.read(_PIECE):
        if holds_key(rest + piece):
            return True
        rest = piece[-_OVERLAP:]
    return False


def record_holds_key(record: logging.LogRecord) -> bool:
    """Whether a handler could show it: message, arguments, fields, traceback and stack."""
    told = [repr(vars(record)), record.getMessage()]
    if record.exc_info:
        told.append("".join(traceback.format_exception(record.exc_info[1])))
        told.append(told_by(record.exc_info[1]))
    return any(map(holds_key, told))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it came from, what happened before it, and what it groups."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        if (one := waiting.pop()) is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def is_ours(error: BaseException) -> bool:
    """Whether the library made it or let it through; what tests do with aiohttp is theirs."""
    if type(error).__module__.startswith("apixo_async."):
        return True
    frames = traceback.walk_tb(error.__traceback__)
    return any(_OURS.search(frame.f_code.co_filename) for frame, _ in frames)


def safe_repr(value: object) -> str:
    """As debuggers do: objects that are half made, or nested without end, have none."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # whatever theirs raises
        return ""


def told_by(error: BaseException | None) -> str:
    """All that a reporter of errors can see of one: its chain, and the variables of our frames.

    Not those of functions that are handed the key, or the environment that may hold it, before it
    becomes a `Secret`.
    """
    told: list[str] = []
    for one in chain(error):
        told += map(safe_repr, [one, one.args, getattr(one, "__dict__", {})])
        told.append(str(one))
        for frame, _ in traceback.walk_tb(one.__traceback__):
            is_handed_it = frame.f_locals.keys() & {"api_key", "environment"}
            if _OURS.search(frame.f_code.co_filename) and not is_handed_it:
                told += map(safe_repr, frame.f_locals.values())
    return "\n".join(told)


@attrs.define(eq=False)
class Watch(logging.Handler):
    """Collects where the key was seen. One test after the other; `findings` empties it."""

    found: list[tuple[Place, str]] = attrs.field(factory=list)
    seen: set[tuple[str, int, int]] = attrs.field(factory=set)
    """Files by name, size and time of the last change."""

    def __attrs_pre_init__(self) -> None:
        super().__init__(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Looks at a log record at once: its arguments may change later."""
        if record_holds_key(record):
            where = f"{record.name} {record.levelname} {record.pathname}:{record.lineno}"
            self.found.append(("log", f"log record of {where}"))

    def text(self, place: Place, what: str, text: bytes | str | None) -> None:
        """Looks at something that was printed or said."""
        if text and holds_key(text):
            self.found.append((place, what))

    def error(self, error: BaseException | None) -> None:
        """Looks at an error that a test expected."""
        if error is not None and any(map(is_ours, chain(error))) and holds_key(told_by(error)):
            self.found.append(("errors", f"{type(error).__qualname__} that was raised"))

    def files(self, below: Path) -> None:
        """Looks at every file below a directory that has not been seen as it is now."""
        for directory, _, names in os.walk(below):
            for name in names:
                self._file(Path(directory, name))

    def _file(self, path: Path) -> None:
        try:
            state = path.lstat()
            now = (str(path), state.st_size, state.st_mtime_ns)
            if not stat.S_ISREG(state.st_mode) or now in self.seen:
                return
            self.seen.add(now)
            is_leak = file_holds_key(path)
        except OSError:  # gone meanwhile, or locked by the test
            return
        if is_leak:
            self.found.append(("files", f"file {path}"))

    def findings(self, allowed: frozenset[str] = frozenset()) -> list[str]:
        """What was found since it was last asked, but for places where a key is expected."""
        found, self.found = self.found, []
        return sorted({what for place, what in found if place not in allowed})


def allowed_in(item: pytest.Item) -> frozenset[str]:
    """Places where a test shows a key on purpose, by `writes_key(*places, reason=...)`."""
    places: set[str] = set()
    for marker in item.iter_markers(MARKER):
        if not marker.args or not marker.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: {MARKER} needs places and a reason")
        places |= set(marker.args)
    return frozenset(places)


def _wrap(patch: pytest.MonkeyPatch, owner: type, name: str, **looks: Callable[..., None]) -> None:
    """Replaces a method by one that shows its arguments to `before` and its result to `after`."""
    original = getattr(owner, name)
    before, after = looks.get("before"), looks.get("after")

    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # as they are there
        if before is not None:
            before(*args)
        result = original(*args, **kwargs)
        if after is not None:
            after(result)
        return result

    patch.setattr(owner, name, wrapped)


def eavesdrop(watch: Watch, patch: pytest.MonkeyPatch) -> None:
    """Lets the watch see what passes through the hands of tests and leaves no file behind."""

    def streams(pair: Any) -> None:  # noqa: ANN401  # two of text, bytes or None
        for text in pair:
            watch.text("output", "what was printed and read by the test", text)

    def arrived(_: object, __: int, data: bytes) -> None:
        watch.text("output", "output of a child process", data)

    def warned(recorder: pytest.WarningsRecorder, *_: object) -> None:
        for warning in recorder.list:
            watch.text("warnings", f"warning {warning.category.__name__}", repr(vars(warning)))

    def invoked(result: Any) -> None:  # noqa: ANN401  # click.testing.Result, of an extra
        watch.text("output", "output of a command", result.output)
        watch.error(result.exception)

    _wrap(patch, subprocess.Popen, "communicate", after=streams)
    _wrap(patch, pytest.CaptureFixture, "readouterr", after=streams)
    _wrap(patch, SubprocessStreamProtocol, "pipe_data_received", before=arrived)
    _wrap(patch, pytest.RaisesExc, "__exit__", before=lambda _, __, error, ___: watch.error(error))
    _wrap(patch, pytest.WarningsRecorder, "__exit__", before=warned)
    try:
        from click.testing import CliRunner
    except ImportError:  # an extra
        return
    _wrap(patch, CliRunner, "invoke", after=invoked)


def report_of(findings: list[str]) -> str:
    """What stands in the report of a test that leaves a key behind."""
    text = io.StringIO()
    text.write("an API key is in what this test leaves behind:\n")
    text.writelines(f"  {what}\n" for what in findings)
    return text.getvalue()
