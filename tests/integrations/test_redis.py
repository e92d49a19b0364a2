"""What is particular to Redis."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Iterator

import pytest
import redis as redis_client

from apixo_async import InvalidSettingError, StoreError
from apixo_async.integrations import redis as module
from apixo_async.integrations.redis import RedisLimits
from apixo_async.limits import BucketSize
from tests.integrations.stores import InRedis
from tests.services import REDIS, redis_prefix

SIZE = BucketSize(5.0, 20.0)
HOUR = 3600


@pytest.fixture
def store() -> Iterator[InRedis]:
    """Keys that nobody else has."""
    with redis_prefix() as prefix:
        yield InRedis(prefix=prefix)


def keys_of(store: InRedis) -> dict[str, int]:
    """Those that are there, by what they are for, and the seconds that they stay."""
    with redis_client.Redis.from_url(REDIS, decode_responses=True) as client:
        keys = client.keys(f"{store.prefix}:*")
        return {str(key).rpartition(":")[2]: client.ttl(key) for key in keys}


async def test_keys_go_by_themselves(store: InRedis) -> None:
    """An hour after the last lease, or the last request, is over."""
    limits = store.member(lease=100.0)
    await limits.reserve(5 + 20 * 1000, SIZE)
    asked = keys_of(store)
    await limits.slots(held=0, wanted=1, cap=1)

    assert asked.keys() == {"bucket"}
    assert HOUR + 100 + 990 <= asked["bucket"] <= HOUR + 100 + 1000
    assert keys_of(store)["bucket"] >= HOUR + 100 + 980
    assert HOUR + 90 <= keys_of(store)["members"] <= HOUR + 100
    await limits.aclose()


async def test_who_only_has_slots_keeps_the_count_of_requests(store: InRedis) -> None:
    """It lasts as long as the members do."""
    limits = store.member(lease=100.0)
    await limits.reserve(3, SIZE)
    with redis_client.Redis.from_url(REDIS) as client:
        client.expire(limits._bucket, 5)
    await limits.slots(held=0, wanted=1, cap=1)

    assert keys_of(store)["bucket"] >= HOUR
    await limits.aclose()


async def test_keys_of_an_account_are_on_one_node_of_a_cluster(store: InRedis) -> None:
    """What is in braces decides where a key is."""
    limits = store.member(account="our videos")

    assert (limits._bucket, limits._members) == (
        f"{store.prefix}:{{our videos}}:bucket",
        f"{store.prefix}:{{our videos}}:members",
    )
    await limits.aclose()


async def test_who_is_always_disturbed_gives_up(
    store: InRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an error, after many attempts, each of which another member's success has spoilt."""
    monkeypatch.setattr(module, "ATTEMPTS", 3)
    monkeypatch.setattr(module, "BETWEEN_ATTEMPTS", 0.001)
    limits, other = store.member(), store.member()
    look = limits._look
    looks = 0

    async def disturbed() -> object:
        nonlocal looks
        looks += 1
        seen = await look()
        await other.slots(held=0, wanted=1, cap=1)
        return seen

    monkeypatch.setattr(limits, "_look", disturbed)
    with pytest.raises(StoreError, match="3 times in a row other members of account"):
        await limits.slots(held=0, wanted=1, cap=1)

    assert looks == 3
    assert set(await other.members()) == {other.member}
    await limits.aclose()
    await other.aclose()


async def test_a_server_that_forgot_everything_is_used_anew(store: InRedis) -> None:
    """Its scripts, too, as after a restart."""
    limits = store.member()
    await limits.reserve(20, SIZE)
    await limits.slots(held=2, wanted=3, cap=3)
    with redis_client.Redis.from_url(REDIS) as client:
        client.script_flush()
        client.delete(limits._bucket, limits._members)

    assert await limits.reserve(1, SIZE) == 0.0
    grant = await limits.slots(held=2, wanted=3, cap=3)
    assert (grant.cap, grant.requests) == (3, 1)
    await limits.aclose()


async def test_a_connection_that_the_server_dropped_is_made_anew(store: InRedis) -> None:
    """As one that nobody used for long; nobody hears of it."""
    store.address = f"{REDIS}?client_name={store.prefix}"
    limits = store.member()
    await limits.reserve(1, SIZE)
    with redis_client.Redis.from_url(REDIS, decode_responses=True) as client:
        [ours] = [one for one in client.client_list() if one["name"] == store.prefix]
        client.client_kill_filter(_id=ours["id"])

    await limits.reserve(1, SIZE)
    assert store.bucket()["requests"] == 2
    await limits.aclose()


@pytest.mark.parametrize("text", ['{"held": 1}', "nonsense", "[]"])
async def test_keys_that_somebody_else_wrote_are_an_error(store: InRedis, text: str) -> None:
    """They are left as they are."""
    limits = store.member()
    with redis_client.Redis.from_url(REDIS) as client:
        client.hset(limits._members, "member:x", text)
        with pytest.raises(StoreError, match="has not written"):
            await limits.slots(held=0, wanted=1, cap=1)
        client.delete(limits._members)
        client.set(limits._members, "a text")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await limits.slots(held=0, wanted=1, cap=1)

        assert client.get(limits._members) == b"a text"
    await limits.aclose()


async def test_a_server_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call ends with an error after a while."""
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    holding = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await holding.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        limits = RedisLimits(f"redis://127.0.0.1:{port}")
        with pytest.raises(StoreError, match="Timeout"):
            await limits.reserve(1, SIZE)
        await limits.aclose()
        holding.set()


async def test_no_error_shows_the_password() -> None:
    """Neither where nobody listens nor where another password is asked for."""
    for url in ("redis://me:S3CRET@127.0.0.1:1/0", REDIS.replace("://", "://me:S3CRET@", 1)):
        limits = RedisLimits(url)
        with pytest.raises(StoreError, match=r"^Redis: ") as caught:
            await limits.members()
        await limits.aclose()

        assert "S3CRET" not in "".join(traceback.format_exception(caught.value))
        assert "S3CRET" not in repr(limits)


@pytest.mark.parametrize("url", ["S3CRET", "http://S3CRET@x", "redis://me:S3CRET@x:S3CRET/0", 5])
def test_what_is_no_url_is_told_at_once(url: str) -> None:
    """Without what was given, for a password may be in it."""
    with pytest.raises(InvalidSettingError, match="url must be redis://") as caught:
        RedisLimits(url)

    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))
