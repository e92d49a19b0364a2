"""Work in a process of its own: a fork, which has nothing left to import and leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Told: TypeAlias = dict[str, Any]
Tell: TypeAlias = Callable[[Told], None]

MEMORY = 4 << 30
"""Bytes of address space that it may take."""
TERMINAL = os.dup(2)
"""Where faults are told from any depth."""
FAULT = 70
"""The exit code of work that raised something."""


def in_fork(work: Callable[[], Told]) -> Told | None:
    """What `work` returns; `None` if its process was killed, as by its own timer."""
    return next(told_by_fork(lambda tell: tell(work())), None)


def told_by_fork(work: Callable[[Tell], None]) -> Iterator[Told]:
    """What `work` tells, as it comes."""
    place = tempfile.mkdtemp(prefix="mutant-")
    os.chmod(place, 0o755)  # noqa: PTH101, S103  # some tests look as another user
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        _work_as_child(work, place, writable)
    os.close(writable)
    try:
        with os.fdopen(readable, encoding="utf-8") as told:
            yield from map(json.loads, told)
    finally:
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it has started
        shutil.rmtree(place, ignore_errors=True)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FAULT:
            raise SystemExit("a trial could not be made")


def _work_as_child(work: Callable[[Tell], None], place: str, writable: int) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.tempdir = place
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    try:
        with os.fdopen(writable, "w", encoding="utf-8") as pipe:

            def tell(what: Told) -> None:
                pipe.write(json.dumps(what) + "\n")
                pipe.flush()

            work(tell)
    except BaseException:  # noqa: BLE001  # there is nobody to raise it to
        os.write(TERMINAL, traceback.format_exc().encode())
        os._exit(FAULT)
    os._exit(0)
