"""PostgreSQL as what processes of any machines share (extra `postgres`).

    limits = PostgresLimits("postgresql://apixo@db.internal/videos")
    async with ApixoClient(gate=Gate(Limits(), shared=limits)) as client: ...

Tables are made in a schema of their own when they are first needed. All times are the server's.
On Windows, psycopg needs `asyncio.WindowsSelectorEventLoopPolicy()`.
"""

from apixo_async.integrations.postgres._connection import Database
from apixo_async.integrations.postgres.inbox import PostgresInbox
from apixo_async.integrations.postgres.ledger import PostgresLedger
from apixo_async.integrations.postgres.limits import PostgresLimits

__all__ = ["Database", "PostgresInbox", "PostgresLedger", "PostgresLimits"]
