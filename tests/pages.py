"""Code blocks on our pages of Markdown, and how commands of a page are run as a reader would.

A block that cannot run has a comment before it, which a reader does not see:
`<!-- not run: why -->`. Where numbers of an output differ from run to run, it is
`<!-- numbers vary -->`.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = [
    "README.md",
    "CONTRIBUTING.md",
    "examples/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
RUNNABLE: Final = {"python", "console"}
OTHER: Final = {"json", "nginx", "sql", "text"}
"""Languages that nobody runs; what is in `sql` blocks is tried by tests of its own."""
BLOCK: Final = re.compile(
    r"(?:^<!-- (?P<note>[^\n]+) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN: Final = re.compile(r"not run: (.+)")
VARIES: Final = "numbers vary"
UNIT: Final = re.compile(r"\d[\d,.]*(?=(?:\s(?:s|min|MB|kB|requests)\b|\s?%))")
NUMBER: Final = re.compile(r"\d[\d,.]*")


@attrs.frozen
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    text: str
    note: str = ""

    @property
    def why_not(self) -> str | None:
        """Why it is not run, if so."""
        match = NOT_RUN.fullmatch(self.note)
        return match[1] if match else None

    @property
    def place(self) -> str:
        """Where it is, for whoever reads a failure."""
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page in order."""
    return blocks_in(page, (ROOT / page).read_text(encoding="utf-8"))


def blocks_in(page: str, text: str) -> list[Block]:
    """The same of a text."""
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["note"] or "",
        )
        for match in BLOCK.finditer(text)
    ]


def steps(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it is shown to print."""
    command, shown = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown
            command, shown = line[2:], []
        elif line.startswith("> ") and not shown:
            command += "\n" + line[2:]
        elif command.endswith("\\") and not shown:
            command += "\n" + line
        else:
            shown.append(line)
    if command:
        yield command, shown


def pattern(line: str, *, varies: bool) -> re.Pattern[str]:
    """What a line of real output has to look like: `...` is anything, and so are measured times."""
    loose = (NUMBER if varies else UNIT).sub("\0", line.strip())
    parts = [re.escape(part) for part in re.split(r"(\0|\.\.\.|\s+)", loose)]
    # A size has the unit that suits it.
    parts = [re.sub(r"^(?:MB|kB)\b", "\1", part) for part in parts]
    exact = "".join(parts).replace(re.escape("\0"), r"[\d,.]+").replace(re.escape("..."), ".*")
    exact = exact.replace("\1", "(?:MB|kB)")
    return re.compile(re.sub(r"(?:\\ |\s)+", r"\\s+", exact))


def missing(shown: list[str], output: str, *, varies: bool) -> list[str]:
    """The lines that the output lacks, or has in another order."""
    lines = iter([line.strip() for line in output.splitlines()])
    lacking: list[str] = []
    for line in filter(str.strip, shown):
        if line.strip() == "...":  # whatever is left out here
            continue
        wanted = pattern(line, varies=varies)
        if not any(wanted.fullmatch(there) for there in lines):
            lacking.append(line)
            lines = iter([line.strip() for line in output.splitlines()])
    return lacking


# Puts in what a reader leaves out because his emulator, or APIXO, is not hurried.
SHIM: Final = """\
#!{python}
import sys
from apixo_async.cli import main

given = sys.argv[1:]
verb = given[0] if given else ""
if "--emulator" in given and "--emulator-speed" not in given:
    given += ["--emulator-speed", "100"]
elif verb in {{"batch", "resume", "generate", "wait"}} and "--emulator" not in given:
    if "--first-poll" not in given:
        given += ["--first-poll", "0.1", "--poll-every", "0.02"]
sys.argv[1:] = given
main()
"""


def execute(block: Block) -> dict[str, object]:
    """Runs a block of Python, which may await outside of a function as a notebook's cell may.

    Returns what it has defined.
    """
    defined: dict[str, object] = {"__name__": "__main__"}
    flags = 0 if "asyncio.run(" in block.text else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    ran = eval(compile(block.text, block.place, "exec", flags), defined)  # noqa: S307  # our own pages
    if inspect.iscoroutine(ran):
        asyncio.run(ran)
    return defined


class Shell:
    """Runs the commands of one page, one after the other, in one shell and one directory."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        tools = directory.with_name(directory.name + "-bin")
        tools.mkdir()
        shim = tools / "apixo"
        shim.write_text(SHIM.format(python=sys.executable), encoding="utf-8")
        shim.chmod(0o700)
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env={**os.environ, **environment, "PATH": path, "COLUMNS": "100"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    def run(self, command: str) -> tuple[int, str]:
        """What a command exits with and prints."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        mark = "-- the command has ended --"
        process.stdin.write(f"{command}\n__code=$?; echo; echo {shlex.quote(mark)} $__code\n")
        process.stdin.write("(exit $__code)\n")
        process.stdin.flush()
        printed: list[str] = []
        for line in process.stdout:
            if line.startswith(mark):
                return int(line.split()[-1]), "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell has ended: {''.join(printed)}")

    def close(self) -> None:
        """Ends the shell, and what runs in its background."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("kill $(jobs -p) 2>/dev/null; wait\n")
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
