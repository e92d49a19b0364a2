"""Clients and batches whose gates hold the limits together, against one simulated account."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    ClientUsageError,
    Gate,
    InvalidSettingError,
    Job,
    Limits,
    OutcomeStatus,
    StopReason,
    StoreError,
    TextToVideo,
)
from apixo_async.events import ClientEvent, Paused
from tests.fakes import BASE_URL, KEY, FakeApi, refusal
from tests.limits.judges import worst_window
from tests.stores import MemoryMember, MemoryStore, State
from tests.virtual import VirtualLoop, run_virtual

REQUEST = TextToVideo("a snail on a leaf", mode="fast")


def client_of(
    api: FakeApi,
    member: MemoryMember,
    *,
    limits: Limits | None = None,
    on_event: Callable[[ClientEvent], object] | None = None,
) -> ApixoClient:
    """A client whose gate is shared."""
    gate = Gate(limits or Limits(), shared=member)
    return ApixoClient(KEY, base_url=BASE_URL, transport=api, gate=gate, on_event=on_event)


def jobs(number: int) -> list[Job]:
    """So many different jobs."""
    return [Job(REQUEST, key=f"job-{n}") for n in range(number)]


def test_clients_hold_the_limits_of_one_account_together() -> None:
    """Three of them do all of their work, and the account sees no more than it allows."""
    api, limits = FakeApi(), Limits(requests_per_minute=600, concurrent_tasks=10)

    async def main() -> None:
        store = MemoryStore()

        async def work() -> None:
            async with client_of(api, store.member(), limits=limits) as client:
                await asyncio.gather(*(client.generate(REQUEST) for _ in range(20)))
                assert client.statistics().gate.is_shared
                assert await client.balance() > 0

        await asyncio.gather(work(), work(), work())

    run_virtual(main())

    assert len(api.billed) == 60
    assert api.peak_unfinished == 10
    assert worst_window(api.requests, 60) <= 600


def test_a_batch_takes_no_longer_with_a_store_than_without() -> None:
    """One process fills its account as fast, one lease after the other as it is."""
    limits = Limits(concurrent_tasks=150)

    async def took(client: ApixoClient) -> float:
        begin = asyncio.get_running_loop().time()
        async with client:
            report = await BatchRunner(client).run(jobs(250))
        assert report.counts[OutcomeStatus.SUCCEEDED] == 250
        return asyncio.get_running_loop().time() - begin

    def duration(number: int) -> float:
        return random.Random(number).uniform(60, 180)

    def alone() -> ApixoClient:
        api = FakeApi(duration=duration)
        return ApixoClient(KEY, base_url=BASE_URL, transport=api, limits=limits)

    def shared() -> ApixoClient:
        return client_of(FakeApi(duration=duration), MemoryStore().member(), limits=limits)

    assert run_virtual(took(shared())) <= 1.05 * run_virtual(took(alone()))


def test_two_batches_share_an_account() -> None:
    """Both end, and together they never have more tasks than it allows."""
    api, limits = FakeApi(), Limits(concurrent_tasks=20)

    async def main() -> None:
        store = MemoryStore()

        async def batch() -> None:
            async with client_of(api, store.member(), limits=limits) as client:
                report = await BatchRunner(client).run(jobs(60))
            assert report.counts[OutcomeStatus.SUCCEEDED] == 60

        await asyncio.gather(batch(), batch())

    run_virtual(main())

    assert (len(api.billed), api.peak_unfinished) == (120, 20)


def test_a_batch_without_its_store_stops_and_goes_on_later() -> None:
    """After a minute nothing more is begun; what runs is waited for, and nothing is paid twice."""
    api = FakeApi()

    async def main() -> None:
        store, loop = MemoryStore(), asyncio.get_running_loop()
        limits = Limits(concurrent_tasks=10)
        loop.call_later(30, setattr, store, "state", "away")
        loop.call_later(150, setattr, store, "state", "up")
        async with client_of(api, store.member(), limits=limits) as client:
            report = await BatchRunner(client).run(jobs(30))
            assert report.stopped is StopReason.JOURNAL
            assert report.counts[OutcomeStatus.SUCCEEDED] == 10
            assert report.counts[OutcomeStatus.NOT_STARTED] == 20
            report = await BatchRunner(client).run(jobs(20))
            assert report.counts[OutcomeStatus.SUCCEEDED] == 20

    run_virtual(main())

    assert len(api.billed) == 30


def test_tasks_that_nobody_watches_are_looked_at_while_another_process_wants_their_slots() -> None:
    """They have ended, and would hold them for an hour; a third of a lease may pass."""
    api, limits = FakeApi(), Limits(concurrent_tasks=2)

    async def main() -> float:
        store, loop = MemoryStore(), asyncio.get_running_loop()
        async with (
            client_of(api, store.member(), limits=limits) as leaving,
            client_of(api, store.member(), limits=limits) as other,
        ):
            for _ in range(2):
                await leaving.submit(REQUEST)
            await asyncio.sleep(200)
            assert api.statuses == 0, "nobody wants them yet"
            begin = loop.time()
            await asyncio.gather(*(other.submit(REQUEST) for _ in range(2)))
            return loop.time() - begin

    assert run_virtual(main()) < 45


def test_a_submit_without_store_says_so_and_sends_nothing() -> None:
    """Once it comes back, the same call succeeds."""
    api = FakeApi()

    async def main() -> None:
        store = MemoryStore(state="away")
        async with client_of(api, store.member()) as client:
            with pytest.raises(StoreError, match=r"^nothing was sent: the store of shared limits"):
                await client.submit(REQUEST)
            with pytest.raises(StoreError):
                await client.balance()
            assert api.requests == []
            store.state = "up"
            task = await client.generate(REQUEST)
            assert task.has_succeeded
            assert client.statistics().unfinished_tasks == 0

    run_virtual(main())


def test_a_passed_gate_gets_the_clients_hook() -> None:
    """Pauses are told as they are with a gate that the client makes."""
    heard = list[ClientEvent]()
    answers = iter([refusal(429, retry_after="3")])
    api = FakeApi(on_submit=lambda *_: next(answers, None))

    async def main() -> None:
        member = MemoryStore().member()
        async with client_of(api, member, on_event=heard.append) as client:
            await client.submit(REQUEST)

    run_virtual(main())

    assert [event.retry_after for event in heard if isinstance(event, Paused)] == [3.0]


def test_a_client_that_leaves_while_its_tasks_run_keeps_their_slots() -> None:
    """For as long as they may run by the lease."""
    api = FakeApi()

    async def main() -> None:
        member = MemoryStore().member()
        async with client_of(api, member) as client:
            for _ in range(3):
                await client.submit(REQUEST)
        assert (member.left_with, member.is_closed) == (3, True)

    run_virtual(main())


def test_closing_that_is_cancelled_leaves_the_store_all_the_same() -> None:
    """POSTs are cut, and may run: they are among what is held."""
    api = FakeApi(latency=1_000.0)

    async def main() -> None:
        member = MemoryStore().member()
        client = client_of(api, member)
        submitting = asyncio.create_task(client.submit(REQUEST))
        await asyncio.sleep(1)
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(1)
        closing.cancel()
        await asyncio.gather(closing, submitting, return_exceptions=True)
        assert (member.left_with, member.is_closed) == (1, True)

    run_virtual(main())


@pytest.mark.parametrize("state", ["up", "hanging"])
def test_a_client_whose_loop_has_ended_leaves_the_store(state: State) -> None:
    """From another loop, and whatever the store makes of it."""
    store = MemoryStore()
    member = store.member()
    client = client_of(FakeApi(), member)

    async def begin() -> None:
        await client.submit(REQUEST)
        store.state = state

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(begin())
    run_virtual(client.aclose())

    assert member.is_closed
    assert member.left_with == (1 if state == "up" else None)


def test_who_waits_in_a_client_that_closes_is_told_so() -> None:
    """Also those who wait for a store that is away."""

    async def main() -> None:
        store = MemoryStore()
        client = client_of(FakeApi(), store.member())
        task = await client.submit(REQUEST)
        store.state = "away"
        waiting = [
            asyncio.create_task(client.submit(REQUEST)),
            asyncio.create_task(client.status(task)),
            asyncio.create_task(client.wait(task)),
        ]
        await asyncio.sleep(5)
        await client.aclose()
        for end in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(end, ClientUsageError)

    run_virtual(main())


# Settings


def test_limits_and_gate_are_not_both_given() -> None:
    """Whose limits would count?"""
    with pytest.raises(InvalidSettingError, match=r"^limits must not be given beside gate"):
        ApixoClient(KEY, limits=Limits(), gate=Gate(Limits()))


def test_a_gate_belongs_to_one_client() -> None:
    """Two would not know of each other's end."""
    gate = Gate(Limits())
    ApixoClient(KEY, gate=gate)
    with pytest.raises(InvalidSettingError, match=r"^gate must not be that of another client"):
        ApixoClient(KEY, gate=gate)


def test_a_gate_is_a_gate() -> None:
    """The store itself is none."""
    with pytest.raises(InvalidSettingError, match=r"^gate must be a Gate, got MemoryMember$"):
        ApixoClient(KEY, gate=MemoryStore().member())  # type: ignore[arg-type]


def test_a_gate_without_store_may_be_passed() -> None:
    """It behaves as the one that the client makes of the same limits, and keeps its own hook."""
    heard = list[ClientEvent]()
    gate = Gate(Limits(concurrent_tasks=2), rng=random.Random(1), tell=heard.append)
    answers = iter([refusal(429, retry_after="3")])
    api = FakeApi(on_submit=lambda *_: next(answers, None))

    async def main() -> None:
        client = ApixoClient(KEY, base_url=BASE_URL, transport=api, gate=gate)
        async with client:
            await asyncio.gather(*(client.generate(REQUEST) for _ in range(4)))
        assert [type(event) for event in heard] == [Paused]
        statistics = client.statistics().gate
        assert (statistics.tasks_cap, statistics.tasks_peak) == (2, 2)
        assert (statistics.is_shared, statistics.tasks_granted) == (False, None)
        assert statistics.is_store_reachable

    run_virtual(main())
