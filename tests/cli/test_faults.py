"""Every error ends with what to do next: gone through by construction."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from apixo_async import cli, errors
from apixo_async.cli import exits
from apixo_async.cli.app import apixo
from apixo_async.cli.faults import REPORT, Fault, advice_for
from apixo_async.tasks import Task
from tests.cli.conftest import run

TASK = Task(id="t1", model="other", state="processing")
SOURCES = sorted(Path(cli.__file__).parent.glob("*.py"))
NEVER_SEEN = {errors.ApixoError, errors.ClientUsageError}
"""Nobody meets these but by a fault of ours."""


def kinds(cls: type[errors.ApixoError] = errors.ApixoError) -> Iterator[type[errors.ApixoError]]:
    """Every error of the tree."""
    yield cls
    for below in cls.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from kinds(below)


def made(cls: type[errors.ApixoError]) -> errors.ApixoError:
    """An error of this class, without asking what it is made from."""
    error = cls.__new__(cls)
    error.task = TASK  # type: ignore[attr-defined]  # those that have one
    return error


@pytest.mark.parametrize("cls", sorted(set(kinds()), key=str))
def test_every_error_of_the_library_has_advice(cls: type[errors.ApixoError]) -> None:
    """Of its own: only faults of ours are asked to be reported."""
    advice = advice_for(made(cls))

    assert advice.text
    assert (advice.text == REPORT) == (cls in NEVER_SEEN)


def test_errors_of_the_system_have_advice_too() -> None:
    """And what has no message is named by its class."""
    fault = Fault.of(OSError())

    assert fault.message == "OSError"
    assert "disk" in fault.advice


def calls(path: Path) -> Iterator[ast.Call]:
    """Every call in a source file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_no_fault_is_made_without_advice() -> None:
    """Wherever the command line makes one, what to do is said, and is not empty."""
    found = 0
    for path in SOURCES:
        for call in calls(path):
            name = ast.unparse(call.func)
            if name not in {"Fault", "cls"} or (name == "cls" and path.name != "faults.py"):
                continue
            found += 1
            given = {one.arg: one.value for one in call.keywords}
            where = f"{path.name}:{call.lineno}"
            assert "advice" in given, where
            assert ast.unparse(given["advice"]) not in {"''", '""'}, where
    assert found > 25
    assert inspect.signature(Fault).parameters["advice"].default is inspect.Parameter.empty


def test_only_usage_errors_of_click_are_raised() -> None:
    """Those get their advice where they are shown; other kinds would slip past."""
    for path in SOURCES:
        for call in calls(path):
            name = ast.unparse(call.func)
            if name.startswith("click.") and name.endswith(("Error", "Exception", "Parameter")):
                assert name in {"click.UsageError", "click.BadParameter"}, path.name


def wrong_lines() -> Iterator[list[str]]:
    """For every command: a missing argument, an unknown option, each option without its value."""
    for name in apixo.list_commands(click.Context(apixo)):
        command = apixo.get_command(click.Context(apixo), name)
        assert command is not None
        yield [name, "--no-such-option"]
        needed = [one for one in command.params if isinstance(one, click.Argument) and one.required]
        if needed:
            yield [name]
        yield [name, *("x" for _ in command.params), "too", "many"]
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag and not option.count:
                yield [name, *("x" for _ in needed), option.opts[0]]
                if not isinstance(option.type, click.types.StringParamType | click.Path):
                    yield [name, *("x" for _ in needed), option.opts[0], "\N{SNOWMAN}"]


def test_every_wrong_command_line_is_answered_with_what_to_do() -> None:
    """Every command and every option, gone through: an error, advice, exit code 2."""
    lines = list(wrong_lines())
    for words in lines:
        result = run(*words)
        said = result.stderr.splitlines()

        assert result.exit_code == exits.USAGE, words
        assert said[0].startswith("error: "), words
        assert said[1].startswith("  "), words
        assert "--help" in said[1], words
        assert len(said) == 2, words
    assert len(lines) > 100


def test_a_task_that_goes_on_comes_with_the_command_to_wait_for_it() -> None:
    """With its model, and with where the API is if that was said."""
    error = errors.TaskTimeoutError(TASK, waited=9)

    assert advice_for(error).text == "go on waiting with: apixo wait t1 --model other"
    assert advice_for(error, ("--base-url", "http://a")).text == (
        "go on waiting with: apixo wait t1 --model other --base-url http://a"
    )
