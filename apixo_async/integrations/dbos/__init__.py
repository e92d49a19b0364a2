"""Durable generations on DBOS (extra `dbos`): a queue that many replicas work off.

async with DurableVeo("postgresql://apixo@db.internal/videos") as veo:
    jobs = [await veo.enqueue(f"clip-{n}", prompt=prompt) for n, prompt in enumerate(prompts)]
    async for outcome in veo.as_completed(jobs):
        print(outcome.key, outcome.urls or outcome.error)
"""

from apixo_async.integrations.dbos._following import DurableJob
from apixo_async.integrations.dbos._service import DurableVeo

__all__ = ["DurableJob", "DurableVeo"]
