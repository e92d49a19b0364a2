"""The stores of shared limits behind one interface, for tests that hold for all of them."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import LiteralString, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import attrs
import psycopg
import redis as redis_client
from psycopg import sql

from apixo_async.integrations.postgres import PostgresLimits
from apixo_async.integrations.redis import RedisLimits
from apixo_async.integrations.sqlite import SqliteLimits
from tests.services import POSTGRES, REDIS, postgres_schema, redis_prefix

Limits: TypeAlias = RedisLimits | PostgresLimits | SqliteLimits


def through(address: str, port: int) -> str:
    """The same server, by way of another port of this machine."""
    parts = urlsplit(address)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{port}"))


def address_of(address: str, port: int) -> tuple[str, int]:
    """Host and port of a server; without one, its usual port."""
    parts = urlsplit(address)
    return parts.hostname or "127.0.0.1", parts.port or port


class Store(Protocol):
    """A store of one test, with an account of its own."""

    account: str
    code: str
    """What makes a member of it in another process."""

    def member(self, **settings: object) -> Limits:
        """A new member of the account."""
        ...

    def age(self, seconds: float) -> None:
        """Makes all leases older."""

    def bucket(self) -> dict[str, float]:
        """What is kept of the bucket: changed_at, ahead, tokens, requests."""
        ...


@attrs.define(kw_only=True)
class InRedis:
    """In Redis, under a prefix of its own."""

    prefix: str
    address: str = REDIS
    account: str = attrs.field(factory=lambda: secrets.token_hex(4))

    @property
    def code(self) -> str:
        return (
            "from apixo_async.integrations.redis import RedisLimits\n"
            f"limits = RedisLimits({REDIS!r}, account={self.account!r}, prefix={self.prefix!r})"
        )

    def member(self, **settings: object) -> RedisLimits:
        given = {"account": self.account, "prefix": self.prefix, **settings}
        return RedisLimits(self.address, **given)  # type: ignore[arg-type]  # whatever a test sets

    def age(self, seconds: float) -> None:
        key = f"{self.prefix}:{{{self.account}}}:members"
        with redis_client.Redis.from_url(REDIS, decode_responses=True) as client:
            for field, text in client.hgetall(key).items():
                if str(field).startswith("member:"):
                    kept = json.loads(text)
                    kept["until"] -= seconds
                    client.hset(key, field, json.dumps(kept))

    def bucket(self) -> dict[str, float]:
        key = f"{self.prefix}:{{{self.account}}}:bucket"
        with redis_client.Redis.from_url(REDIS, decode_responses=True) as client:
            return {str(name): float(value) for name, value in client.hgetall(key).items()}


@attrs.define(kw_only=True)
class InPostgres:
    """In PostgreSQL, in a schema of its own."""

    schema: str
    address: str = POSTGRES
    account: str = "an account"

    @property
    def code(self) -> str:
        return (
            "from apixo_async.integrations.postgres import PostgresLimits\n"
            f"limits = PostgresLimits({POSTGRES!r}, account={self.account!r},"
            f" schema={self.schema!r})"
        )

    def member(self, **settings: object) -> PostgresLimits:
        given = {"account": self.account, "schema": self.schema, **settings}
        return PostgresLimits(self.address, **given)  # type: ignore[arg-type]  # as above

    def age(self, seconds: float) -> None:
        with psycopg.connect(POSTGRES, autocommit=True) as connection:
            connection.execute(
                self._of("UPDATE {}.members SET until = until - make_interval(secs => %s)"),
                [seconds],
            )

    def bucket(self) -> dict[str, float]:
        with psycopg.connect(POSTGRES) as connection:
            statement = self._of(
                "SELECT extract(epoch FROM changed_at)::float8, ahead, tokens, requests"
                " FROM {}.buckets WHERE account = %s"
            )
            found = connection.execute(statement, [self.account]).fetchone()
        names = ("changed_at", "ahead", "tokens", "requests")
        return {} if found is None else dict(zip(names, found, strict=True))

    def _of(self, statement: LiteralString) -> sql.Composed:
        return sql.SQL(statement).format(sql.Identifier(self.schema))


@attrs.define(kw_only=True)
class InFile:
    """In a file of its own."""

    path: Path
    account: str = "an account"

    @property
    def code(self) -> str:
        return (
            "from apixo_async.integrations.sqlite import SqliteLimits\n"
            f"limits = SqliteLimits({str(self.path)!r}, account={self.account!r})"
        )

    def member(self, **settings: object) -> SqliteLimits:
        given = {"account": self.account, **settings}
        return SqliteLimits(self.path, **given)  # type: ignore[arg-type]  # as above

    def age(self, seconds: float) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            database.execute("UPDATE members SET until = until - ?", (seconds,))

    def bucket(self) -> dict[str, float]:
        with closing(sqlite3.connect(self.path)) as database:
            database.row_factory = sqlite3.Row
            found = database.execute(
                "SELECT changed_at, ahead, tokens, requests FROM buckets WHERE account = ?",
                (self.account,),
            ).fetchone()
        return {} if found is None else dict(found)


KINDS = ("redis", "postgres", "sqlite")


@contextmanager
def store_of(kind: str, place: Path) -> Iterator[InRedis | InPostgres | InFile]:
    """A store of this kind that goes with the test."""
    if kind == "redis":
        with redis_prefix() as prefix:
            yield InRedis(prefix=prefix)
    elif kind == "postgres":
        with postgres_schema() as schema:
            yield InPostgres(schema=schema)
    else:
        yield InFile(path=place / "limits.db")
