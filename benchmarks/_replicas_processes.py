"""Processes of `_replica` and others that speak JSON lines, and what they take. Linux only."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

import attrs

from benchmarks._vitals import PAGE

TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
ENDING: Final = 60.0
"""Seconds that a process may take to leave when it is asked to."""
LINE: Final = 1 << 20


class DiedError(RuntimeError):
    """A process ended that was to say something."""


def _times(pid: int) -> list[float]:
    """User, system, and both of the children that were waited for, in seconds."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return [0.0] * 4
    return [int(ticks) * TICK for ticks in stat.rpartition(")")[2].split()[11:15]]


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, all threads; 0 if it is gone."""
    return sum(_times(pid)[:2])


def cpu_with_ended(pid: int) -> float:
    """The same with those of its children that have ended."""
    return sum(_times(pid))


def resident_of(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def members_of(parent: int) -> Iterator[int]:
    """Processes that a process has started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            of = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if of == parent:
            yield int(stat.parent.name)


@attrs.define(eq=False)
class Replica:
    """A process that says what it does; what it logs goes into a file."""

    process: asyncio.subprocess.Process
    log: Path
    cpu_at_start: float = 0.0

    @classmethod
    async def start(cls, log: Path, module: str, argument: str) -> Self:
        """Returns when it is ready."""
        with log.open("a") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                argument,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=LINE,
            )
        replica = cls(process, log)
        await replica.said("ready", value=True)
        replica.cpu_at_start = cpu_of(process.pid)
        return replica

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    async def said(self, word: str, value: object) -> dict[str, Any]:
        """The next line that says so; `DiedError` if none came before the end."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            facts: dict[str, Any] = json.loads(line)
            if facts.get(word) == value:
                return facts
        raise DiedError(f"process {self.pid} has not said {word}: {self.log.read_text()[-4_000:]}")

    def ask(self, line: str) -> None:
        """A line for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def cpu(self) -> float:
        """Seconds of CPU since it was ready."""
        return cpu_of(self.pid) - self.cpu_at_start

    def resident(self) -> int:
        """Bytes in memory."""
        return resident_of(self.pid)

    async def kill(self) -> None:
        """As by kill -9."""
        self.process.kill()
        await self.process.wait()

    def freeze(self) -> None:
        """Stops all it does."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    async def aclose(self) -> int:
        """Asks it to leave; its exit code."""
        assert self.process.stdin is not None
        if self.is_running:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(ENDING):
                return await self.process.wait()
        except TimeoutError:
            await self.kill()
            return -signal.SIGKILL
