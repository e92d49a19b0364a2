"""What the client does is noted while a batch runs: often at first, then rarely."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs

from apixo_async import Limits
from apixo_async.batch.journal import Traffic
from apixo_async.batch.sampling import Sampler
from apixo_async.errors import JournalError
from apixo_async.limits import Gate
from tests.virtual import virtual


@attrs.define
class FakeJournal:
    """Keeps what it is told, and when."""

    samples: list[tuple[float, Traffic]] = attrs.field(factory=list[tuple[float, Traffic]])
    is_closed: bool = False

    def note_traffic(self, sample: Traffic) -> None:
        if self.is_closed:
            raise JournalError("the journal is closed")
        self.samples.append((asyncio.get_running_loop().time(), sample))


def sampler(journal: Any, gate: Gate) -> Sampler:  # noqa: ANN401  # a journal for the type checker
    """One that writes into the fake."""
    return Sampler(journal, gate.statistics)


@virtual
async def test_samples_are_taken_until_the_end() -> None:
    """At the begin, each second, then each fiftieth of the time so far, and at the end."""
    journal, gate = FakeJournal(), Gate(Limits(requests_per_minute=600, concurrent_tasks=5))
    sampling = sampler(journal, gate)
    sampling.start()
    await asyncio.sleep(1_000.5)
    lease = await gate.lease()
    sampling.stop()
    sampling.stop()
    await asyncio.sleep(100)

    times = [at - journal.samples[0][0] for at, _ in journal.samples]
    assert [round(at) for at in times[:4]] == [0, 1, 2, 3]
    assert times[-2] - times[-3] > 15
    assert 180 < len(times) < 220
    assert times[-1] == max(times) < 1_001
    last = journal.samples[-1][1]
    assert (last.running, last.task_cap) == (1, 5)
    assert 0 < last.request_limit <= 600
    lease.release()


@virtual
async def test_a_journal_that_is_closed_ends_nothing() -> None:
    """The run may be torn down in any order."""
    journal, gate = FakeJournal(is_closed=True), Gate(Limits())
    sampling = sampler(journal, gate)

    sampling.start()
    await asyncio.sleep(3)
    sampling.stop()

    assert journal.samples == []


def test_a_run_that_never_began_has_nothing_to_end() -> None:
    """Stopping asks for no event loop then."""
    journal = FakeJournal()

    sampler(journal, Gate(Limits())).stop()

    assert journal.samples == []
