"""A private emulator as a child process, and settings scaled to its faster clock."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from apixo_async.cli.faults import KEY_VARIABLE, Fault

_ENDING: Final = 5.0
_LEDGER_TIMEOUT: Final = 10.0
_BURST_MAX: Final = 100


@attrs.frozen
class EmulatedApi:
    """An emulator that runs beside us: where it is, and how fast its clock goes."""

    base_url: str
    api_key: str = attrs.field(repr=False)
    speed: float

    def ledger(self) -> dict[str, Any]:
        """What it saw and billed so far. Raises `Fault` if it does not answer."""
        parts = urlsplit(self.base_url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=_LEDGER_TIMEOUT)
        try:
            connection.request("GET", "/emulator/ledger")
            ledger: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Fault(
                f"the emulator does not tell its ledger: {error}",
                advice="the videos are not concerned; run it once more for the ledger",
            ) from None
        finally:
            connection.close()
        return ledger


@contextmanager
def emulated(arguments: Sequence[str], *, speed: float) -> Generator[EmulatedApi]:
    """Runs an emulator for as long as the block lasts; `arguments` are those of `apixo emulator`.

    The child leads a session of its own, so that Ctrl-C reaches only us and what is under way is
    still answered. It ends by itself when its standard input does, which covers a killed parent.
    """
    command = [sys.executable, "-P", "-m", "apixo_async.cli", "emulator", "--port", "0", "--json"]
    child = subprocess.Popen(  # noqa: S603  # our own interpreter and module
        [*command, "--until-stdin-ends", "--speed", str(speed), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(os.environ),
        start_new_session=True,
    )
    try:
        line = child.stdout.readline() if child.stdout is not None else b""
        try:
            ready = json.loads(line)
        except ValueError:
            raise Fault(
                "the emulator did not start",
                advice="what it said is above; apixo emulator starts it alone",
            ) from None
        yield EmulatedApi(ready["base_url"], ready["api_key"], speed)
    finally:
        _end(child)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: it finds the package where we did, and never sees the key."""
    ours = str(Path(__file__).parents[2])
    path = [ours, *filter(None, [environment.get("PYTHONPATH")])]
    kept = {name: value for name, value in environment.items() if name != KEY_VARIABLE}
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}


def _end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    for harder in (child.terminate, child.kill):
        try:
            child.wait(_ENDING)
        except subprocess.TimeoutExpired:
            harder()
    child.wait()


def scaled_rate(requests_per_minute: int, *, speed: float) -> int:
    """The requests per real minute that keep the limit in every minute of a faster clock.

    Such a minute lasts `60 / speed` real seconds. A client of rate R may send a burst of
    b = R // 100 (1 to 100) at once and then (R + 1 - b) / 61 a second; b plus what follows in the
    short minute must not exceed the limit. The smallest burst that fits allows the highest rate.
    """
    for burst in range(1, _BURST_MAX + 1):
        rate = int(speed * (requests_per_minute - burst)) + burst - 1
        if rate < 1 or min(rate // _BURST_MAX, _BURST_MAX) <= burst:
            return max(1, rate)
    return max(1, requests_per_minute)
