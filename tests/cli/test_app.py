from __future__ import annotations

import re
import shlex
import subprocess
import sys

import click
import pytest

from apixo_async.cli.app import apixo
from apixo_async.cli.helping import Verb
from tests.cli.conftest import run

COMMANDS = [
    "generate",
    "plan",
    "batch",
    "resume",
    "show",
    "export",
    "report",
    "settle",
    "status",
    "wait",
    "download",
    "balance",
    "emulator",
    "completion",
]


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["batch", "--help"], ["plan", "--help"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Asking for help waits neither for aiohttp nor for rich."""
    done = python(
        "import sys\n"
        "from apixo_async.cli import main\n"
        f"sys.argv = ['apixo', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('loaded:', {'aiohttp', 'cattrs', 'rich', 'uvloop'} & set(sys.modules))\n"
    )

    assert done.returncode == 0
    assert "loaded: set()" in done.stdout


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_one_sentence_says_what_to_install(missing: str) -> None:
    """Without click or rich, `apixo` names the extra and exits with 2."""
    done = python(
        f"import sys\nsys.modules[{missing!r}] = None\nfrom apixo_async.cli import main\nmain()\n"
    )

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        'error: the command line is an extra: pip install "apixo-async[cli]"'
    ]


def test_help_names_all_commands() -> None:
    """`apixo --help` lists every command once, by what it is for, with a line about it."""
    shown = run("--help", env={"COLUMNS": "80"}).output
    begin = shown.index("Generate one video:")
    listed = shown[begin : shown.index("Example:")].splitlines()
    names = [line.split()[0] for line in listed if line.startswith("  ")]

    assert sorted(names) == sorted(COMMANDS)
    assert "Other commands" not in shown
    assert all(len(line.split()) > 2 for line in listed if line.startswith("  "))


def test_apixo_alone_says_where_to_begin() -> None:
    """The same as with --help: a command without a key and without cost, and what comes next."""
    alone = run()

    assert alone.exit_code == 0
    assert alone.output == run("--help").output
    assert "| apixo batch - --emulator" in alone.output
    assert "apixo COMMAND --help" in alone.output


@pytest.mark.writes_key("output", reason="the help of the emulator names its default key")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """Each command says what it does in a sentence, and so does each of its options."""
    result = run(command, "--help", env={"COLUMNS": "80"})
    found = apixo.get_command(click.Context(apixo), command)

    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: apixo {command}")
    assert found is not None
    shown = " ".join(result.output.split())
    assert len(said := " ".join((found.help or "").split("\n\n")[0].split())) > 20
    assert said in shown
    for option in found.params:
        if isinstance(option, click.Option) and not option.hidden:
            text = re.sub(r"\[default: .*\]", "", option.help or "")
            assert len(text.split()) > 1, option.name
            assert option.opts[-1] in shown
            assert " ".join(text.split()) in shown


def test_version_is_one_line() -> None:
    """`apixo --version` prints the program's name and a version."""
    result = run("--version")

    assert result.exit_code == 0
    assert result.output.startswith("apixo ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["batch"],
        ["generate", "a", "--mode", "slow"],
        ["generate", "a", "--deadline", "0"],
        ["batch", "f", "--max-jobs", "0"],
        ["plan"],
        ["plan", "f", "--price", "fast"],
        ["plan", "f", "--price", "fast=dear"],
        ["plan", "f", "--price", "fast=1", "--price", "fast=2"],
        ["plan", "f", "--max-cost", "-1"],
        ["batch", "f", "--emulator-fault", "failed_task"],
        ["batch", "f", "--emulator-fault", "failed_task=2"],
        ["generate", "a", "--last-frame", "https://x.example/a.png"],
        ["generate", "a", "--extend", "t", "--image", "https://x.example/a.png"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    """What the command line does not allow ends with code 2 and no traceback."""
    result = run(*arguments)

    assert result.exit_code == 2
    error, advice = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert advice.startswith("  apixo ")
    assert "--help shows" in advice
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["bacth"], "'batch'"),
        (["gen"], "'generate'"),
        (["resmue"], "'resume'"),
        (["batch", "f", "--jurnal", "r.db"], "--journal"),
        (["show", "r.db", "--folow"], "--follow"),
        (["generate", "a", "--mode", "fats"], "fast"),
    ],
    ids=str,
)
def test_what_was_meant_is_suggested(arguments: list[str], meant: str) -> None:
    """For commands, options and values that are mistyped."""
    assert meant in run(*arguments).stderr.splitlines()[0]


def test_what_nothing_is_like_is_not_guessed_at() -> None:
    """It is said where all names are."""
    assert run("xyzzy").stderr == (
        "error: no such command 'xyzzy'\n  apixo --help shows what there is\n"
    )


@pytest.mark.writes_key("output", reason="the help of the emulator names its default key")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_line_that_is_allowed(name: str) -> None:
    """Each help has one that works as it stands, for the command that it is about."""
    command = apixo.get_command(click.Context(apixo), name)
    assert isinstance(command, Verb)
    words = shlex.split(command.example.removeprefix('eval "$(').removesuffix(')"'))
    shown = run(name, "--help", env={"COLUMNS": "80"}).output

    assert words[:2] == ["apixo", name]
    with command.make_context(name, words[2:]) as context:
        assert context.params
    assert f"  {command.example}\n" in shown
    assert "What comes next:" in shown
    for line, _ in command.then:
        verb = re.search(r"apixo (\S+)", line)
        assert verb is not None
        assert verb[1] in COMMANDS


def test_many_options_stand_by_what_they_are_for() -> None:
    """Few stand together; each is there once."""
    many = run("batch", "--help").output
    titles = re.findall(r"^(\S.*):$", many, re.MULTILINE)

    assert titles == [
        "Options",
        "What it may cost",
        "Callbacks",
        "When to look",
        "Your account",
        "Emulator",
        "Example",
        "What comes next",
    ]
    assert len(re.findall(r"^  --journal ", many, re.MULTILINE)) == 1
    assert "Your account" not in run("status", "--help").output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("batch", "no-such-file", "--json"), 2), (("status", "no-such-task", "--json"), 1)],
)
@pytest.mark.usefixtures("apixo_emulator")
def test_an_error_is_no_result_in_json_either(arguments: tuple[str, ...], code: int) -> None:
    """It stands on standard error in words; who reads the results goes by the exit code."""
    result = run(*arguments)

    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
