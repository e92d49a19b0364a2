"""The limits of an account in Redis, shared by processes of any machines (extra `redis`).

    limits = RedisLimits("redis://127.0.0.1:6379/0")
    async with ApixoClient(gate=Gate(Limits(), shared=limits)) as client: ...

Two hashes an account: `bucket`, which one script changes, and `members`. All times are the
server's. Both go by themselves when nobody has used them for a while.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import attrs
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apixo_async.errors import InvalidSettingError, StoreError
from apixo_async.integrations._member import member_settings
from apixo_async.limits.buckets import BucketSize
from apixo_async.limits.roster import Kept, Roster, gone, renewed
from apixo_async.limits.sharing import LEASE_SECONDS, Grant

__all__ = ["RedisLimits"]

PREFIX: Final = "apixo"
TIMEOUT: Final = 5.0
"""Seconds for a connection or an answer: nothing is sent meanwhile, and all commands are small."""
CONNECTIONS: Final = 4
"""More would gain nothing: Redis does one thing at a time."""
KEPT_SECONDS: Final = 3600.0
"""What nobody has used for so long, and a lease, is gone: the bucket would be full again."""
ATTEMPTS: Final = 100
"""Changes of the members that may come in between; each is another member's success."""
BETWEEN_ATTEMPTS: Final = 0.02
"""Seconds, at most: a change takes less than a millisecond or two."""
_MEMBER: Final = "member:"

_RESERVE: Final = """
-- As Line.joined in apixo_async/limits/reservations.py.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local requests, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local per_second, kept_for = tonumber(ARGV[3]), tonumber(ARGV[4])
local kept = redis.call('HMGET', KEYS[1], 'changed_at', 'ahead', 'tokens')
local left = tonumber(kept[2] or 0) - math.max(0, now - tonumber(kept[1] or now))
local tokens = math.min(burst, tonumber(kept[3] or burst) + math.max(0, -left) * per_second)
local ahead = math.max(0, left) + math.max(0, requests - tokens) / per_second
local wait = string.format('%.17g', ahead)
redis.call(
    'HSET', KEYS[1],
    'changed_at', string.format('%.17g', now),
    'ahead', wait,
    'tokens', string.format('%.17g', math.max(0, tokens - requests))
)
redis.call('HINCRBY', KEYS[1], 'requests', requests)
redis.call('EXPIRE', KEYS[1], math.ceil(ahead + kept_for))
return wait
"""
_READ: Final = """
return {redis.call('TIME'), redis.call('HGETALL', KEYS[1])}
"""
_REPLACE: Final = """
-- The members, unless somebody has changed them since they were read; then nothing is returned.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
if version ~= tonumber(ARGV[1]) then
    return nil
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', version + 1)
for place = 3, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[place], ARGV[place + 1])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
if redis.call('TTL', KEYS[2]) < tonumber(ARGV[2]) then
    redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return tonumber(redis.call('HGET', KEYS[2], 'requests') or 0)
"""


class RedisLimits:
    """A member of an account whose limits are in Redis: pass it as `Gate(shared=...)`.

    It belongs to the event loop that first uses it, and connects when it is first used. Redis 5 or
    newer, or Valkey; a cluster will do, as an account's keys have one slot. A server that forgets
    its data begins with a full bucket and no members, until all have called again.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with a password if there is one. Options
            of redis-py may follow as its query, such as `?socket_timeout=2`.
        account: Whose limits they are: all members that name the same one share them.
        lease: Seconds for which slots are kept for a member that gives no sign of life, from 1 to
            a week. Shorter than a task, the account may get more than its cap; longer, the slots
            of a process that died are idle.
        member: Its name among the others, which nobody else may have; `None` draws one.
        prefix: What all keys begin with.

    Attributes:
        account: As it was given.
        member: Its name.
        lease: Seconds.

    Raises:
        InvalidSettingError: The URL or another setting cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        account: str = "default",
        lease: float = LEASE_SECONDS,
        member: str | None = None,
        prefix: str = PREFIX,
    ) -> None:
        own = member_settings(account=account, lease=lease, member=member)
        self.account, self.member, self.lease = own.account, own.member, own.lease
        self._pool = _pool(url)
        self._redis = Redis(connection_pool=self._pool)
        # In braces is what decides where a cluster keeps a key.
        self._bucket = f"{prefix}:{{{account}}}:bucket"
        self._members = f"{prefix}:{{{account}}}:members"
        self._reserve = self._redis.register_script(_RESERVE)
        self._read = self._redis.register_script(_READ)
        self._replace = self._redis.register_script(_REPLACE)

    async def reserve(self, requests: int, size: BucketSize) -> float:
        """Takes so many requests out of the bucket of all; seconds until they may leave.

        Args:
            requests: How many; they are taken whether or not they leave.
            size: The bucket as this member knows it.

        Raises:
            StoreError: Redis cannot be used. They may have been taken all the same.
        """
        given = (requests, size.burst, size.per_second, self.lease + KEPT_SECONDS)
        async with _told():
            return float(await self._reserve(keys=[self._bucket], args=given))

    async def slots(self, *, held: int, wanted: int, cap: int) -> Grant:
        """Tells what this member holds and has use for, renews its lease, and gives its slots.

        Args:
            held: Slots that it holds; they stay, whatever the cap.
            wanted: Slots that it has use for.
            cap: What the account has for all.

        Raises:
            StoreError: Redis cannot be used.
        """

        def change(roster: Roster, now: float) -> Roster:
            return renewed(
                roster, self.member, held=held, wanted=wanted, cap=cap, lease=self.lease, now=now
            )

        roster, requests = await self._change(change)
        return Grant(cap=roster.members[self.member].granted, requests=requests)

    async def members(self, *, left: float = 0.0) -> Collection[str]:
        """Names of the members whose lease has not ended and who have not left.

        Args:
            left: Seconds that a member's lease must have left to count; one that lives renews it
                when two thirds of it are left.

        Raises:
            StoreError: Redis cannot be used.
        """
        _, roster, now = await self._look()
        return roster.at(now).present(left=left)

    async def leave(self, *, held: int) -> None:
        """This member goes; what it held is kept for its tasks until its lease ends.

        Args:
            held: Slots whose tasks go on without it.

        Raises:
            StoreError: Redis cannot be used; then its lease just ends.
        """

        def change(roster: Roster, now: float) -> Roster:
            return gone(roster, self.member, held=held, lease=self.lease, now=now)

        await self._change(change)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()
        await self._pool.disconnect()

    async def _change(self, change: Callable[[Roster, float], Roster]) -> tuple[Roster, int]:
        """Changes the members as if nobody else did; also the requests of all so far."""
        kept_for = math.ceil(self.lease + KEPT_SECONDS)
        for _ in range(ATTEMPTS):
            version, before, now = await self._look()
            after = change(before, now)
            given: list[int | str] = [version, kept_for, *_fields(after)]
            async with _told():
                requests = await self._replace(keys=[self._members, self._bucket], args=given)
            if requests is not None:
                return after, int(requests)
            # Not in step with those who were in the way.
            await asyncio.sleep(random.uniform(0, BETWEEN_ATTEMPTS))  # noqa: S311  # no secret
        raise StoreError(
            f"Redis: {ATTEMPTS} times in a row other members of account "
            f"{self.account!r} changed {self._members} in the same moment"
        )

    async def _look(self) -> tuple[int, Roster, float]:
        """The version of the members, the members, and the server's time."""
        async with _told():
            (seconds, microseconds), flat = await self._read(keys=[self._members])
        now = int(seconds) + int(microseconds) / 1e6
        texts = [_text(value) for value in flat]
        kept = dict(zip(texts[::2], texts[1::2], strict=True))
        try:
            return int(kept.get("version", 0)), _roster(kept, now), now
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"Redis: {self._members} holds what this version of apixo-async has not written"
            ) from error


@asynccontextmanager
async def _told() -> AsyncGenerator[None]:
    """Errors of Redis and the network as ours; neither names a password."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreError(f"Redis: {str(error) or type(error).__name__}") from error


def _pool(url: object) -> BlockingConnectionPool:
    try:
        return BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  # kwargs
            str(url),
            max_connections=CONNECTIONS,
            timeout=TIMEOUT,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            socket_keepalive=True,
            # Once at once, for a connection that was dropped while nobody used it.
            retry=Retry(NoBackoff(), 1),
        )
    except (ValueError, TypeError):
        # Not what was given, and not what was wrong with it: a password may be in either.
        raise InvalidSettingError(
            "url must be redis://[[user]:password@]host[:port][/database], rediss:// or unix://"
        ) from None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _roster(kept: Mapping[str, str], now: float) -> Roster:
    return Roster(
        members={
            field.removeprefix(_MEMBER): Kept(**json.loads(text))
            for field, text in kept.items()
            if field.startswith(_MEMBER)
        },
        seen_at=float(kept.get("seen_at", now)),
    )


def _fields(roster: Roster) -> Iterator[str]:
    """Names and values in turn."""
    yield from ("seen_at", repr(roster.seen_at))
    for name, member in roster.members.items():
        yield from (_MEMBER + name, json.dumps(attrs.asdict(member)))
