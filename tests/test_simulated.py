import asyncio
import json

import pytest

from apixo_async import ApixoClient, BatchRunner, Limits, PollSchedule, TextToVideo
from tests.simulated import Account, Allowance, client_of, detection_delays
from tests.virtual import run_virtual, virtual

SUBMIT = "/generateTask/veo-3-1"
BODY = json.dumps({"input": {"prompt": "x"}}).encode()
QUICK = PollSchedule(first=10, interval=2)


async def submit(account: Account) -> int:
    """One bare submit; its HTTP status."""
    return (await account.send("POST", SUBMIT, body=BODY)).status


async def look(account: Account, task_id: str = "task_1") -> dict[str, object]:
    """The data of one bare status call."""
    reply = await account.send("GET", f"/statusTask/veo-3-1?taskId={task_id}")
    data = json.loads(reply.body)["data"]
    assert isinstance(data, dict)
    return data


async def run_all(client: ApixoClient, jobs: int) -> None:
    """A batch, to its end."""
    async with client:
        report = await BatchRunner(client).run(TextToVideo(f"scene {n}") for n in range(jobs))
        assert len(report.urls) == jobs


def trace(*, seed: int) -> str:
    """The trace of a batch of 500 jobs that take between 5 and 24 seconds."""

    async def run() -> str:
        account = Account(lambda given: 5.0 + int(str(given["prompt"])[6:]) % 20)
        limits = Limits(concurrent_tasks=100)
        await run_all(client_of(account, seed=seed, limits=limits, schedule=QUICK), 500)
        return account.trace

    return run_virtual(run())


def test_the_same_seed_gives_the_same_trace() -> None:
    """Every request comes at the same moment and is answered alike; another seed differs."""
    first = trace(seed=1)

    assert first == trace(seed=1)
    assert first != trace(seed=2)


@virtual
async def test_a_client_at_default_limits_meets_no_429() -> None:
    """1,500 tasks that end at once when they are looked at stay within both limits."""
    account = Account(lambda _: 30.0)

    await run_all(client_of(account, seed=1, schedule=PollSchedule(first=30, interval=5)), 1_500)

    assert not account.refused
    assert account.peak_unfinished <= 1_000
    assert account.busiest_window <= 10_000


@virtual
async def test_requests_above_the_limit_are_refused_until_the_window_has_slid_on() -> None:
    """Refused requests count as well."""
    account = Account(lambda _: 1.0, allows=[Allowance(requests_per_minute=3)])

    assert [await submit(account) for _ in range(4)] == [200, 200, 200, 429]
    await asyncio.sleep(59.5)
    assert await submit(account) == 200
    assert len(account.requests) == 5
    assert len(account.refused) == 1
    assert account.busiest_window == 4


@virtual
async def test_tasks_above_the_limit_are_refused_until_one_has_ended() -> None:
    """A slot is free when the server's task has ended, whether anybody has looked or not."""
    account = Account(lambda _: 100.0, allows=[Allowance(concurrent_tasks=2)])

    assert [await submit(account) for _ in range(3)] == [200, 200, 429]
    await asyncio.sleep(100)
    assert await submit(account) == 200
    assert account.peak_unfinished == 2


@virtual
async def test_an_account_is_upgraded_at_its_time() -> None:
    """What is allowed changes while the client runs."""
    allows = [Allowance(concurrent_tasks=1), Allowance(concurrent_tasks=2, since=60)]
    account = Account(lambda _: 1_000.0, allows=allows)

    assert [await submit(account), await submit(account)] == [200, 429]
    await asyncio.sleep(60)
    assert [await submit(account), await submit(account)] == [200, 429]


@virtual
async def test_the_delay_is_the_time_from_the_end_to_the_answer() -> None:
    """The look leaves 5 s after the end, and its answer needs 0.2 s."""
    account = Account(lambda _: 10.0)

    await submit(account)
    await asyncio.sleep(4)
    await look(account)
    assert detection_delays(account.tasks) == []

    ends_at = account.tasks[0].ends_at
    await asyncio.sleep(ends_at + 5 - asyncio.get_running_loop().time())
    await look(account)
    await look(account)

    assert detection_delays(account.tasks) == [pytest.approx(5.2, abs=1e-3)]


@pytest.mark.parametrize("tells_times", [True, False])
@virtual
async def test_answers_tell_the_times_of_the_server_if_they_are_to(tells_times: bool) -> None:
    """In milliseconds, as the API does."""
    account = Account(lambda _: 10.0, tells_times=tells_times)

    await submit(account)
    early = await look(account)
    await asyncio.sleep(10)
    late = await look(account)

    assert ("createTime" in early, "completeTime" in early) == (tells_times, False)
    assert ("createTime" in late, "completeTime" in late) == (tells_times, tells_times)
    if tells_times:
        assert int(str(late["completeTime"])) - int(str(late["createTime"])) == 10_000


@virtual
async def test_an_unknown_task_is_not_found() -> None:
    """As the API answers for an id that it never gave."""
    account = Account(lambda _: 10.0)

    reply = await account.send("GET", "/statusTask/veo-3-1?taskId=task_7")

    assert reply.status == 404
