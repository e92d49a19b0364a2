"""What every store of shared limits promises, in Redis, in PostgreSQL and in a file."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import time_machine

from apixo_async import InvalidSettingError, StoreError
from apixo_async.limits import BucketSize
from apixo_async.limits.reservations import Line
from apixo_async.limits.sharing import LEASE_SECONDS, SharedLimits
from tests.integrations.stores import (
    KINDS,
    InFile,
    InPostgres,
    InRedis,
    Limits,
    address_of,
    store_of,
    through,
)
from tests.limits.judges import worst_window
from tests.services import wire

SMALL = BucketSize(5.0, 20.0)
LARGE = BucketSize(10.0, 50.0)
HOUR = 3600.0
NAMED = r"^(Redis|PostgreSQL)"


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[InRedis | InPostgres | InFile]:
    """An empty one of each kind."""
    with store_of(request.param, tmp_path) as empty:
        yield empty


@asynccontextmanager
async def members_of(
    store: InRedis | InPostgres | InFile, count: int = 1, **settings: object
) -> AsyncIterator[list[Limits]]:
    """So many members, closed in the end."""
    members = [store.member(**settings) for _ in range(count)]
    try:
        yield members
    finally:
        for member in members:
            await member.aclose()


@attrs.frozen
class Reserved:
    """When a request may leave, at the earliest and the latest that it can have been meant."""

    earliest: float
    latest: float


async def reserve(limits: SharedLimits, size: BucketSize) -> Reserved:
    """Asks for one request, and looks how long the answer took."""
    before = time.monotonic()
    span = await limits.reserve(1, size)
    return Reserved(before + span, time.monotonic() + span)


def assert_kept(reserved: list[Reserved], size: BucketSize) -> None:
    """No window has more than this bucket lets through, as exactly as answers can be timed."""
    slack = max(one.latest - one.earliest for one in reserved)
    moments = sorted(one.earliest for one in reserved)
    for window in (0.1, 0.5, 2.0):
        allowed = math.floor(size.burst + (window + slack) * size.per_second)
        assert worst_window(moments, window) <= allowed


def is_typed(limits: Limits) -> SharedLimits:
    """For type checkers: each of them is one."""
    return limits


# The rate


async def test_a_member_may_use_the_whole_rate(store: InRedis | InPostgres | InFile) -> None:
    """The burst at once, and then one after the other, each told how long it has to wait."""
    async with members_of(store) as [limits]:
        begin = time.monotonic()
        spans = [await limits.reserve(1, SMALL) for _ in range(45)]
        elapsed = time.monotonic() - begin

    assert spans[:5] == [0.0] * 5
    assert 40 / 20 - elapsed - 0.001 <= spans[-1] <= 40 / 20
    assert store.bucket()["requests"] == 45


async def test_the_rate_is_that_of_all_members(store: InRedis | InPostgres | InFile) -> None:
    """In any window, also of those who ask at the same moment."""
    async with members_of(store, 3) as members:
        begin = time.monotonic()
        reserved = await asyncio.gather(
            *(reserve(member, LARGE) for _ in range(30) for member in members)
        )
        elapsed = time.monotonic() - begin

    assert_kept(reserved, LARGE)
    assert max(one.earliest for one in reserved) - begin <= 80 / 50 + elapsed


async def test_members_that_know_other_limits_share_a_rate(
    store: InRedis | InPostgres | InFile,
) -> None:
    """No window has more than the largest of them would let through."""
    async with members_of(store, 3) as members:
        sizes = [SMALL, LARGE, BucketSize(1.0, 10.0)]
        reserved = [
            await reserve(member, size)
            for _ in range(20)
            for member, size in zip(members, sizes, strict=True)
        ]

    assert_kept(reserved, LARGE)


async def test_many_may_be_taken_at_once(store: InRedis | InPostgres | InFile) -> None:
    """The span is that of the last of them; none of them is one that waits for nothing."""
    async with members_of(store) as [limits]:
        begin = time.monotonic()
        spans = [await limits.reserve(requests, SMALL) for requests in (5, 20, 0)]
        elapsed = time.monotonic() - begin

    assert spans[0] == 0.0
    assert 1.0 - elapsed <= spans[2] <= spans[1] <= 1.0


async def test_all_stores_reckon_alike(store: InRedis | InPostgres | InFile) -> None:
    """A script, a statement and Python: one step after the other as the pure function says."""
    draw = random.Random(7)
    async with members_of(store) as [limits]:
        await limits.reserve(1, SMALL)
        for _ in range(25):
            before = Line(**store.bucket())  # type: ignore[arg-type]  # numbers
            requests, size = draw.choice([0, 1, 2, 12]), draw.choice([SMALL, LARGE])
            await asyncio.sleep(draw.choice([0, 0.02]))
            span = await limits.reserve(requests, size)
            after = store.bucket()
            expected = before.joined(requests, size, now=after["changed_at"])

            assert span == pytest.approx(expected.ahead, abs=1e-5)
            assert after == pytest.approx(attrs.asdict(expected), rel=1e-12, abs=1e-4)


async def test_accounts_have_nothing_to_do_with_each_other(
    store: InRedis | InPostgres | InFile,
) -> None:
    """Neither requests nor slots of one count for another in the same store."""
    other = store.member(account="another")
    async with members_of(store) as [limits]:
        await limits.reserve(100, SMALL)
        await limits.slots(held=0, wanted=5, cap=5)

        assert await other.reserve(1, SMALL) == 0.0
        grant = await other.slots(held=0, wanted=5, cap=5)
        assert (grant.cap, grant.requests) == (5, 1)
        assert set(await other.members()) == {other.member}
    await other.aclose()


# Slots


async def test_a_member_alone_has_all_that_it_wants(store: InRedis | InPostgres | InFile) -> None:
    """And never more than the account has."""
    async with members_of(store) as [limits]:
        caps = [(await limits.slots(held=0, wanted=n, cap=10)).cap for n in (3, 10, 25, 0)]

    assert caps == [3, 10, 10, 0]


async def test_slots_are_shared_fairly(store: InRedis | InPostgres | InFile) -> None:
    """Who came first gives back as its tasks end, who wants less leaves the rest to others."""
    async with members_of(store, 3) as [first, second, third]:
        assert (await first.slots(held=0, wanted=50, cap=12)).cap == 12
        assert (await second.slots(held=0, wanted=50, cap=12)).cap == 0
        assert (await first.slots(held=9, wanted=50, cap=12)).cap == 6
        assert (await second.slots(held=0, wanted=50, cap=12)).cap == 3
        assert (await third.slots(held=0, wanted=2, cap=12)).cap == 0
        assert (await first.slots(held=6, wanted=50, cap=12)).cap == 5
        assert (await second.slots(held=3, wanted=50, cap=12)).cap == 5
        assert (await third.slots(held=0, wanted=2, cap=12)).cap == 1
        assert (await first.slots(held=5, wanted=50, cap=12)).cap == 5
        assert (await third.slots(held=1, wanted=2, cap=12)).cap == 2


async def test_never_more_than_the_cap_in_all(store: InRedis | InPostgres | InFile) -> None:
    """Whoever asks in whatever order, and begins as many tasks at once as it may."""
    draw = random.Random(11)
    held, granted = [0] * 4, [0] * 4
    async with members_of(store, 4) as members:
        for _ in range(80):
            who = draw.randrange(4)
            held[who] -= draw.randint(0, held[who])
            grant = await members[who].slots(held=held[who], wanted=draw.randint(0, 12), cap=9)
            granted[who] = grant.cap
            held[who] = max(held[who], grant.cap)

            assert sum(map(max, held, granted)) <= 9


async def test_a_lease_that_ends_gives_its_slots_back(store: InRedis | InPostgres | InFile) -> None:
    """Not before, and what is held by then is as if it were not."""
    async with members_of(store, 2, lease=60.0) as [gone, limits]:
        await gone.slots(held=4, wanted=4, cap=4)
        store.age(50)
        before = await limits.slots(held=0, wanted=4, cap=4)
        there = set(await limits.members())
        store.age(10)
        after = await limits.slots(held=0, wanted=4, cap=4)

        assert (before.cap, after.cap) == (0, 4)
        assert there == {gone.member, limits.member}
        assert set(await limits.members()) == {limits.member}
        assert (await gone.slots(held=4, wanted=4, cap=4)).cap == 0


async def test_a_lease_is_as_long_as_it_says(store: InRedis | InPostgres | InFile) -> None:
    """By the store's clock, from the last call on."""
    async with members_of(store, 2, lease=1.0) as [gone, limits]:
        begin = time.monotonic()
        await gone.slots(held=4, wanted=4, cap=4)
        while (await limits.slots(held=0, wanted=4, cap=4)).cap == 0:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.05)

        assert time.monotonic() - begin >= 0.999


async def test_who_calls_keeps_its_lease(store: InRedis | InPostgres | InFile) -> None:
    """Each call of `slots` begins it anew."""
    async with members_of(store, 2, lease=60.0) as [steady, limits]:
        for _ in range(3):
            await steady.slots(held=4, wanted=4, cap=4)
            store.age(59)

        assert (await limits.slots(held=0, wanted=4, cap=4)).cap == 0


async def test_who_leaves_keeps_what_its_tasks_hold(store: InRedis | InPostgres | InFile) -> None:
    """Until its lease ends; what it did not hold is free at once, and it is no member any more."""
    async with members_of(store, 2, lease=60.0) as [leaving, limits]:
        await leaving.slots(held=1, wanted=4, cap=4)
        await leaving.leave(held=1)

        assert set(await limits.members()) == set()
        assert (await limits.slots(held=0, wanted=4, cap=4)).cap == 3
        store.age(60)
        assert (await limits.slots(held=3, wanted=4, cap=4)).cap == 4


async def test_who_leaves_may_come_back(store: InRedis | InPostgres | InFile) -> None:
    """Under the same name it goes on with what it holds."""
    async with members_of(store) as [limits]:
        await limits.leave(held=0)
        await limits.slots(held=2, wanted=4, cap=4)
        await limits.leave(held=2)
        grant = await limits.slots(held=2, wanted=4, cap=4)

        assert grant.cap == 4
        assert set(await limits.members()) == {limits.member}


async def test_requests_of_all_members_are_counted(store: InRedis | InPostgres | InFile) -> None:
    """So each can tell what was sent between two of its calls."""
    async with members_of(store, 2) as [first, second]:
        none = await first.slots(held=0, wanted=1, cap=4)
        await first.reserve(3, LARGE)
        await second.reserve(4, LARGE)
        seven = await first.slots(held=0, wanted=1, cap=4)

    assert (none.requests, seven.requests) == (0, 7)


# Many at once


async def test_tasks_of_one_program_may_call_at_the_same_time(
    store: InRedis | InPostgres | InFile,
) -> None:
    """Nothing gets lost between them, on one member or on several."""
    async with members_of(store, 4) as members:
        calls = [member.reserve(1, LARGE) for member in members for _ in range(10)]
        grants = [member.slots(held=0, wanted=9, cap=10) for member in members for _ in range(5)]
        await asyncio.gather(*calls, *grants)
        caps = [(await member.slots(held=0, wanted=9, cap=10)).cap for member in members]
        counted = await members[0].slots(held=0, wanted=9, cap=10)

    assert counted.requests == 40
    assert sum(caps) <= 10


PROCESS = """
import asyncio, sys
from apixo_async.limits import BucketSize

{make}

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    cap = 0
    for number in range(25):
        await limits.reserve(2, BucketSize(10.0, 50.0))
        cap = (await limits.slots(held=cap, wanted=9, cap=10)).cap
    print(cap, flush=True)
    await limits.aclose()

asyncio.run(main())
"""


async def test_processes_share_an_account(store: InRedis | InPostgres | InFile) -> None:
    """Three that begin in the same moment, with nothing in the store.

    Every request is counted, and what they are granted in the end is no more than there is.
    """
    command = [sys.executable, "-c", PROCESS.format(make=store.code)]
    pipe = asyncio.subprocess.PIPE
    others = [
        await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(3)
    ]
    for other in others:
        assert other.stdout is not None
        assert await other.stdout.readline() == b"ready\n"
    told = [
        out for out, _ in await asyncio.gather(*(other.communicate(b"go\n") for other in others))
    ]

    assert [other.returncode for other in others] == [0, 0, 0]
    async with members_of(store) as [limits]:
        grant = await limits.slots(held=0, wanted=10, cap=10)
        assert grant.requests == 150
        assert grant.cap + sum(map(int, told)) <= 10
        assert grant.cap or sum(map(int, told)) == 10
        assert len(set(await limits.members())) == 4


# Clocks


@pytest.mark.parametrize("kind", ["redis", "postgres"])
@pytest.mark.parametrize("hours", [-24, 24])
async def test_a_wrong_clock_of_a_client_changes_nothing(
    kind: str, hours: int, tmp_path: Path
) -> None:
    """Neither rates nor leases: a day ahead or behind, it is told the same as all others."""
    with store_of(kind, tmp_path) as store:
        async with members_of(store, 2) as [right, wrong]:
            begin = time.monotonic()
            await right.reserve(25, SMALL)
            await right.slots(held=4, wanted=4, cap=4)
            with time_machine.travel(time.time() + hours * HOUR):
                span = await wrong.reserve(20, SMALL)
                grant = await wrong.slots(held=1, wanted=4, cap=4)
                there = set(await wrong.members())
                await wrong.leave(held=1)
            elapsed = time.monotonic() - begin

            assert 2.0 - elapsed <= span <= 2.0
            assert grant.cap == 0
            assert there == {right.member, wrong.member}
            assert set(await right.members()) == {right.member}
            assert await right.reserve(1, SMALL) <= 2.05
            store.age(LEASE_SECONDS)
            assert (await right.slots(held=4, wanted=4, cap=4)).cap == 4


async def test_a_clock_of_the_machine_that_steps_back(tmp_path: Path) -> None:
    """A file has no other: an hour back, nobody waits for an hour, and no lease lasts for one."""
    with store_of("sqlite", tmp_path) as store:
        async with members_of(store, 2) as [gone, limits]:
            await gone.slots(held=4, wanted=4, cap=4)
            await limits.reserve(25, SMALL)
            with time_machine.travel(time.time() - HOUR):
                assert await limits.reserve(0, SMALL) <= 1.0
                assert (await limits.slots(held=0, wanted=4, cap=4)).cap == 0
                store.age(LEASE_SECONDS)
                assert (await limits.slots(held=0, wanted=4, cap=4)).cap == 4


# Outages


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_an_outage_is_an_error_and_ends(kind: str, tmp_path: Path) -> None:
    """Each call says so meanwhile; afterwards the next one connects anew, and all is as before."""
    with store_of(kind, tmp_path) as store:
        assert not isinstance(store, InFile)
        port = {"redis": 6379, "postgres": 5432}[kind]
        host, port = address_of(store.address, port)
        async with wire(host, port) as line:
            store.address = through(store.address, line.port)
            async with members_of(store, 1) as [limits]:
                await limits.reserve(3, LARGE)
                await limits.slots(held=2, wanted=4, cap=4)
                line.cut()
                for _ in range(2):
                    with pytest.raises(StoreError, match=NAMED):
                        await limits.reserve(1, LARGE)
                    with pytest.raises(StoreError, match=NAMED):
                        await limits.slots(held=2, wanted=4, cap=4)
                    with pytest.raises(StoreError, match=NAMED):
                        await limits.members()
                with pytest.raises(StoreError, match=NAMED):
                    await limits.leave(held=2)
                line.mend()
                grant = await limits.slots(held=2, wanted=4, cap=4)

                assert (grant.cap, grant.requests) == (4, 3)
                assert set(await limits.members()) == {limits.member}


async def test_who_closed_it_may_use_it_again(store: InRedis | InPostgres | InFile) -> None:
    """It connects anew; closing what was never used, or twice, does nothing."""
    async with members_of(store) as [limits]:
        await limits.aclose()
        await limits.reserve(1, LARGE)
        await limits.aclose()
        await limits.aclose()

        assert (await limits.slots(held=0, wanted=4, cap=4)).requests == 1


async def test_a_caller_that_is_cancelled_leaves_it_usable(
    store: InRedis | InPostgres | InFile,
) -> None:
    """At whatever step of a call; the next one is answered what it asked."""
    async with members_of(store) as [limits]:
        await limits.reserve(1, LARGE)
        for steps in range(12):
            call = asyncio.create_task(limits.slots(held=0, wanted=3, cap=4))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

            assert (await limits.slots(held=0, wanted=2, cap=4)).cap == 2
            assert await limits.reserve(0, LARGE) == 0.0


# Settings


async def test_each_has_a_name_of_its_own(store: InRedis | InPostgres | InFile) -> None:
    """Drawn, unless it is given."""
    async with members_of(store, 2) as [first, second]:
        await first.slots(held=0, wanted=1, cap=4)

        assert first.member != second.member
        assert set(await first.members()) == {first.member}
    named = store.member(member="worker 1")
    await named.slots(held=0, wanted=1, cap=4)
    assert set(await named.members()) == {first.member, "worker 1"}
    await named.aclose()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lease": 0}, "lease must be from 1 to 604800 seconds, got 0"),
        ({"lease": math.nan}, "lease must be .*, got nan"),
        ({"lease": 604_801}, "lease must be"),
        ({"account": ""}, "account must be a text of 1 to 200 printable characters, got ''"),
        ({"account": "a\nb"}, "account must be"),
        ({"account": 7}, "account must be a text .*, got 7"),
        ({"member": "x" * 201}, "member must be"),
    ],
)
def test_settings_are_checked(
    store: InRedis | InPostgres | InFile, settings: dict[str, object], says: str
) -> None:
    """Before anything is connected."""
    with pytest.raises(InvalidSettingError, match=says):
        store.member(**settings)
