"""PostgreSQL and Redis for tests: where they are, and what is said where they are not.

Each test has a schema or a prefix of its own, which goes with it: other tests, and whatever else
is on the same server, never see it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from psycopg import sql

KEPT: Final = Path(__file__).parent.parent / ".services"
"""Where `make services` says what it found or started."""


def address(name: str, usual: str) -> str:
    """What the environment says, or `make services` has said, or what is usual."""
    text = KEPT.read_text(encoding="utf-8") if KEPT.exists() else ""
    kept = dict(line.split("=", 1) for line in text.splitlines())
    return os.environ.get(name) or kept.get(name) or usual


POSTGRES: Final = address("APIXO_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
REDIS: Final = address("APIXO_TEST_REDIS", "redis://127.0.0.1:6379/0")
SECONDS: Final = 5


@functools.cache
def _why_no_postgres() -> str | None:
    try:
        psycopg.connect(POSTGRES, connect_timeout=SECONDS).close()
    except psycopg.Error as error:
        return f"no PostgreSQL at APIXO_TEST_POSTGRES, {type(error).__name__}: make services"
    return None


@functools.cache
def _why_no_redis() -> str | None:
    try:
        with redis.Redis.from_url(REDIS, socket_timeout=SECONDS) as client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return f"no Redis at APIXO_TEST_REDIS, {type(error).__name__}: make services"
    return None


def _need(why_not: str | None) -> None:
    if why_not is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)


@contextmanager
def postgres_schema() -> Iterator[str]:
    """The name of a schema that nobody else has; whatever is in it goes in the end."""
    _need(_why_no_postgres())
    name = f"apixo_test_{secrets.token_hex(6)}"
    yield name
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
        connection.execute(drop)


@contextmanager
def postgres_database() -> Iterator[str]:
    """The URL of a database that nobody else has, for programs that choose their schemas."""
    _need(_why_no_postgres())
    name = f"apixo_test_{secrets.token_hex(6)}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield urlsplit(POSTGRES)._replace(path=f"/{name}").geturl()
        finally:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(drop)


@contextmanager
def redis_prefix() -> Iterator[str]:
    """What the keys of one test begin with; they go in the end."""
    _need(_why_no_redis())
    name = f"apixo_test_{secrets.token_hex(6)}"
    yield name
    with redis.Redis.from_url(REDIS) as client:
        for key in client.scan_iter(f"{name}:*"):
            client.delete(key)


class Wire:
    """A way to a server that can be cut: all connections end, and no new one is let through."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self.is_cut = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side or the wire ends it."""
        if self.is_cut:
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection(*self._to)
        self._open |= {writer, forth}
        await asyncio.gather(_copy(reader, forth), _copy(back, writer))
        self._open -= {writer, forth}

    def cut(self) -> None:
        """From now on nothing gets through."""
        self.is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        """New connections get through again."""
        self.is_cut = False


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def wire(host: str, port: int) -> AsyncIterator[Wire]:
    """A wire to a server, at a free port of this machine."""
    line = Wire(host, port)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    async with server:
        yield line
        line.cut()
