"""The log: one logger, one vocabulary, one page that has all of it."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import apixo_async
from apixo_async._logs import LOGGER, PREFIX, fields
from apixo_async.errors import RateLimitedError

PACKAGE = Path(apixo_async.__file__).parent
PAGE = Path(__file__).parent.parent / "docs" / "logging.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
VOCABULARY = {
    *inspect.signature(fields).parameters,
    "http_status",
    "code",
}
ROW = re.compile(r"^\| `([a-z_]+)` \| ([A-Z, ]+) \| ([^|]*) \|", re.MULTILINE)


HEARD = "LOGGER.error('heard', extra=fields('hook_failed'))"


@attrs.frozen
class LogCall:
    """One call of the logger in the source."""

    place: str
    level: str
    event: str
    names: frozenset[str]


def log_calls() -> Iterator[LogCall | str]:
    """All of the package; a text for one that does not use the vocabulary."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "emulator" in path.parts:  # it shares no code with the rest
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            if "logg" not in owner.lower() or node.func.attr not in LEVELS:
                continue
            place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
            extra = next((word.value for word in node.keywords if word.arg == "extra"), None)
            if not isinstance(extra, ast.Call) or ast.unparse(extra.func) != "fields":
                yield f"{place} has no extra=fields(...)"
                continue
            [event] = extra.args
            assert isinstance(event, ast.Constant)
            names = frozenset(word.arg or "**" for word in extra.keywords)
            yield LogCall(place, node.func.attr, str(event.value), names)


CALLS = list(log_calls())
"""Nothing is imported for it: what would be logged in a rare case is seen as well."""


def test_every_call_uses_the_vocabulary() -> None:
    """By the source: each record has its name and only fields that the one function knows."""
    assert len(CALLS) >= 20
    assert [call for call in CALLS if isinstance(call, str)] == []
    assert {name for call in CALLS if isinstance(call, LogCall) for name in call.names} < VOCABULARY


def test_no_module_has_a_logger_of_its_own() -> None:
    """But for the command line, which adds handlers to the same one; DBOS has its own."""
    found = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if re.search(r'getLogger(?!\("dbos"\))', path.read_text(encoding="utf-8"))
    }

    assert found <= {"_logs.py", "cli", "emulator"}


def test_the_page_has_every_message() -> None:
    """Name, levels and fields of each stand in its row, and nothing else does."""
    told: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for call in CALLS:
        assert isinstance(call, LogCall)
        levels, names = told[call.event]
        level = {"exception": "ERROR", "log": "INFO, WARNING"}.get(call.level, call.level.upper())
        levels |= set(level.split(", "))
        names |= call.names
    text = PAGE.read_text(encoding="utf-8")
    rows = {
        event: (set(levels.split(", ")), set(re.findall(r"`(\w+)`", names)))
        for event, levels, names in ROW.findall(text)
    }

    assert rows == {event: (levels, names) for event, (levels, names) in told.items()}


def test_the_page_has_every_field() -> None:
    """With what it means."""
    text = PAGE.read_text(encoding="utf-8")

    assert [name for name in sorted(VOCABULARY) if f"| `{PREFIX}{name}` |" not in text] == []


def test_no_field_hides_an_attribute_of_a_record() -> None:
    """`logging` would refuse it where it is logged, which may be rare."""
    record = logging.makeLogRecord({})

    assert [name for name in VOCABULARY if hasattr(record, PREFIX + name)] == []


def test_what_is_not_known_is_left_out() -> None:
    """A field is there or it is not; an error brings its class and what the API answered."""
    error = RateLimitedError("slow down", http_status=429, code=429)

    assert fields("look_failed", task_id="t1", error=error) == {
        "apixo_event": "look_failed",
        "apixo_task_id": "t1",
        "apixo_error": "RateLimitedError",
        "apixo_http_status": 429,
        "apixo_code": 429,
    }


def test_it_has_a_handler_that_is_silent() -> None:
    """As every library's logger."""
    assert any(isinstance(handler, logging.NullHandler) for handler in LOGGER.handlers)


@pytest.mark.parametrize(
    ("code", "printed"),
    [
        ("LOGGER.warning('odd', extra=fields('type_unexpected'))", ""),
        ("LOGGER.warning('task t runs', extra=fields('task_goes_on', task_id='t'))", "task t runs"),
        ("LOGGER.error('your hook', extra=fields('hook_failed'))", "your hook"),
        ("LOGGER.info('task t', extra=fields('task_identified', task_id='t'))", ""),
        (
            "import logging; logging.getLogger().addHandler(logging.NullHandler());" + HEARD,
            "",
        ),
        (
            "import logging; LOGGER.addHandler(logging.NullHandler());" + HEARD,
            "",
        ),
    ],
    ids=["small", "names a task", "error", "quiet level", "root heard", "heard"],
)
def test_what_must_not_get_lost_is_printed_where_nobody_listens(code: str, printed: str) -> None:
    """A task that is billed, or an error; nothing in a program that has set up logging."""
    setup = "from apixo_async._logs import LOGGER, fields\n"
    done = subprocess.run(
        [sys.executable, "-c", setup + code], capture_output=True, text=True, check=True
    )

    assert (done.stdout, done.stderr.strip()) == ("", printed)
