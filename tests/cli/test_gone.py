"""What `apixo resume` says first where the emulator of a batch may be gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async.batch.journal.noted import Group, Noted
from apixo_async.cli.gone import refuses, warnings
from apixo_async.cli.options import Options

RUN = Path("run.db")
RUNNING = Group(state="accepted", model="veo-3-1", mode="fast", jobs=2, charges=2, unsaved=0)
QUEUED = Group(state="queued", model="veo-3-1", mode="fast", jobs=2, charges=0, unsaved=0)


@pytest.fixture
def closed() -> Iterator[str]:
    """An address of this machine that is ours, and at which nothing listens."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{kept.getsockname()[1]}/api/v1"


def test_a_new_emulator_does_not_know_the_tasks_of_another() -> None:
    """Who resumes is told what they are waiting for, and what ends it."""
    (told,) = warnings(Noted({"is_emulated": True}, (RUNNING,)), Options(emulator=True), RUN)

    assert told.startswith("2 tasks of the emulator that is gone")
    assert "apixo settle run.db KEY --abandon" in told


def test_an_address_at_which_nothing_listens_is_told_at_once(closed: str) -> None:
    """And not after half an hour; it is tried all the same."""
    (told,) = warnings(Noted({}, (RUNNING,)), Options(base_url=closed), RUN)

    assert told.startswith(f"nothing listens at {closed}; 2 tasks")
    assert "apixo settle run.db KEY --abandon" in told


def test_without_a_running_task_nothing_is_said(closed: str) -> None:
    """What was never sent can be sent to a new one."""
    emulated = Noted({"is_emulated": True}, (QUEUED,))

    assert list(warnings(emulated, Options(emulator=True), RUN)) == []
    assert list(warnings(Noted({}, (QUEUED,)), Options(base_url=closed), RUN)) == []


def test_only_a_refusal_of_this_machine_counts(closed: str) -> None:
    """Nothing is said about what listens, and no other host is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not refuses(f"http://127.0.0.1:{server.getsockname()[1]}")

    assert refuses(closed)
    for url in ("https://api.example.com/api/v1", "http://10.0.0.1:1", "http://[bad", "nonsense"):
        assert not refuses(url)
