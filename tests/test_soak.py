"""What `benchmarks.soak` says of a run: the judge is judged with runs that never were."""

import asyncio
import importlib
import os
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

# The benchmarks are no part of what is installed, so that tests find them by their place only.
with mock.patch.object(sys, "path", [*sys.path, str(Path(__file__).parents[1])]):
    soak: Any = importlib.import_module("benchmarks.soak")
    kept_complaints: Any = importlib.import_module("benchmarks._vitals").complaints_kept


def vitals(**changes: int) -> Any:  # noqa: ANN401  # see above
    """A sample of a process that is calm."""
    calm = {"done": 0, "rss": 100, "fds": 7, "threads": 1, "tasks": 0, "objects": 9}
    return soak.Vitals(seconds=1.0, **(calm | changes))


def soaked(changes: Mapping[str, Any]) -> Any:  # noqa: ANN401  # see above
    """What is good, but for some fields."""
    good: dict[str, Any] = {
        "outcomes": Counter(succeeded=1_000),
        "samples": [vitals(done=done) for done in range(0, 1_000, 10)],
        "before": vitals(),
        "after": vitals(),
    }
    return soak.Soaked(1_000, 100, 40.0, **(good | dict(changes)))


def samples(*, warm: int, last: int) -> list[Any]:
    """The memory that was taken up to the last quarter, and in it."""
    rising = [vitals(done=done, rss=warm) for done in range(0, 700, 10)]
    return rising + [vitals(done=done, rss=last) for done in range(700, 1_000, 10)]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        pytest.param({}, None, id="good"),
        pytest.param({"samples": samples(warm=100, last=104)}, None, id="4 %"),
        pytest.param({"samples": samples(warm=100, last=106)}, "memory grew by 6", id="6 %"),
        pytest.param({"after": vitals(fds=8)}, "8 fds", id="fd"),
        pytest.param({"after": vitals(threads=2)}, "2 threads", id="thread"),
        pytest.param({"tasks_left": 1}, "1 tasks", id="task"),
        pytest.param({"stopped": "doubt"}, "stopped: doubt", id="stopped"),
        pytest.param({"outcomes": Counter(succeeded=999)}, "jobs ended", id="lost"),
        pytest.param(
            {"outcomes": Counter(succeeded=999, not_started=1)}, "jobs ended", id="not started"
        ),
        pytest.param({"asyncio_complaints": ["never retrieved"]}, "never", id="asyncio"),
        pytest.param({"differences": ["billed twice: x"]}, "billed twice", id="twice"),
    ],
)
def test_a_soak_says_what_is_not_good(changes: dict[str, Any], complaint: str | None) -> None:
    """One line for each limit that is broken, and none for what is within."""
    said = list(soak.complaints(soaked(changes)))

    assert len(said) == (complaint is not None)
    assert complaint is None or complaint in said[0]


def test_what_nobody_awaited_or_closed_is_heard() -> None:
    """Coroutines, files, and errors of tasks that nobody asked for; and warnings are errors."""

    async def leave() -> None:
        loop = asyncio.get_running_loop()
        loop.create_future().set_exception(OSError("nobody asks"))
        leave()  # type: ignore[unused-coroutine]
        open(os.devnull).close  # noqa: B018, PTH123, SIM115  # left open

    with kept_complaints() as kept:
        asyncio.run(leave())
        with pytest.raises(UserWarning, match="mind"):
            warnings.warn("mind", stacklevel=1)

    said = "\n".join(kept)
    assert "never awaited" in said
    assert "unclosed file" in said
    assert "never retrieved" in said
