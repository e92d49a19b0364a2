import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import apixo_async
from tests.docstrings import PASSED_ON, TABLES_OF_CONTENTS

TYPING = Path(__file__).parent / "typing"

# Every public name is a decision: whoever adds one adds it here, too.
NAMES = [
    "APIError",
    "ApixoClient",
    "ApixoError",
    "AuthenticationError",
    "BadRequestError",
    "BatchReport",
    "BatchRunner",
    "ClientStatistics",
    "ClientUsageError",
    "ContentViolationError",
    "DownloadError",
    "ExtendVideo",
    "FramesToVideo",
    "Gate",
    "InsufficientCreditsError",
    "InvalidImageURLError",
    "InvalidRequestError",
    "InvalidSettingError",
    "Job",
    "JournalError",
    "LearnedSchedule",
    "Limits",
    "ModelRequest",
    "NotFoundError",
    "NotSentError",
    "Outcome",
    "OutcomeStatus",
    "OutcomeStream",
    "PollSchedule",
    "RateLimitedError",
    "ReferenceToVideo",
    "Request",
    "SavedFile",
    "ServerError",
    "StopReason",
    "StoreError",
    "SubmitUncertainError",
    "Task",
    "TaskFailedError",
    "TaskState",
    "TaskTimeoutError",
    "TextToVideo",
    "Timeouts",
    "TransportError",
    "UnansweredError",
    "UnexpectedAnswerError",
    "WebhookReceiver",
]


def public_names() -> Iterator[str]:
    """Every public name, and those of the methods and properties of its class."""
    for table in TABLES_OF_CONTENTS:
        module = import_module(table)
        for name in module.__all__:
            yield name
            value = getattr(module, name)
            for own, member in vars(value).items() if isinstance(value, type) else ():
                is_told = isinstance(member, property) or inspect.isroutine(member)
                is_for_users = own in PASSED_ON.get(name, {own})
                if is_told and is_for_users and not own.startswith("_"):
                    yield f"{name}.{own}"


def fresh(code: str) -> str:
    """What a program prints in a fresh interpreter, which `-P` keeps from finding the checkout."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_names_are_the_pinned_ones() -> None:
    """Nothing became public, and nothing was taken away, by accident."""
    assert apixo_async.__all__ == NAMES


def test_every_name_is_pinned_for_type_checkers() -> None:
    """What users write is in tests/typing, where two checkers say what they make of it."""
    trees = [ast.parse(file.read_text("utf-8")) for file in TYPING.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    pinned = {node.id for node in nodes if isinstance(node, ast.Name)}
    pinned |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}

    assert [name for name in public_names() if name.rpartition(".")[2] not in pinned] == []


def test_the_names_are_sorted_and_unique() -> None:
    """A reader finds a name where the alphabet puts it."""
    assert sorted(set(apixo_async.__all__)) == apixo_async.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_imported(name: str) -> None:
    """A public name leads to something that is called so, in `dir()` as well."""
    value = getattr(apixo_async, name)

    assert name in dir(apixo_async)
    assert name == getattr(value, "__name__", name)


def test_every_error_is_public() -> None:
    """What can be raised can be caught without reaching into the package."""
    raised = {
        name
        for name, value in vars(import_module("apixo_async.errors")).items()
        if isinstance(value, type) and issubclass(value, apixo_async.ApixoError)
    }

    assert raised <= set(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelled name fails as in any module."""
    with pytest.raises(AttributeError, match="module 'apixo_async' has no attribute 'Apixo'"):
        apixo_async.Apixo  # noqa: B018  # that is the point


def test_importing_the_package_imports_nothing_heavy() -> None:
    """The import alone loads neither aiohttp nor anything of ours."""
    code = "import apixo_async, sys; print(sorted(m for m in sys.modules if m in {'aiohttp',"
    code += " 'attrs', 'cattrs', 'asyncio', 'aiolimiter'} or m.startswith('apixo_async.')))"

    assert fresh(code) == "[]"


@pytest.mark.parametrize(
    "name", ["TextToVideo", "Task", "Limits", "PollSchedule", "TaskFailedError", "Request"]
)
def test_plain_values_need_no_http(name: str) -> None:
    """Whoever only builds requests, or catches errors, does not wait for aiohttp."""
    assert fresh(
        f"import sys; from apixo_async import {name}; print('aiohttp' in sys.modules)"
    ) == ("False")


def test_star_import_brings_exactly_the_names() -> None:
    """`from apixo_async import *` works although names are loaded lazily."""
    code = "from apixo_async import *; print(sorted(n for n in dir() if n[0] != '_'))"

    assert str(NAMES) == fresh(code)


def test_nothing_is_read_from_the_environment_on_import() -> None:
    """Loading every name neither needs nor looks at a key or an address."""
    code = (
        "import os; os.environ['APIXO_BASE_URL'] = 'nonsense'; import apixo_async;"
        " [getattr(apixo_async, name) for name in apixo_async.__all__]; print('fine')"
    )

    assert fresh(code) == "fine"
