"""A file as what processes of one machine share; nothing to install, and no server.

limits = SqliteLimits("shared.db")
async with ApixoClient(gate=Gate(Limits(), shared=limits)) as client: ...
"""

from apixo_async.integrations.sqlite.ledger import SqliteLedger
from apixo_async.integrations.sqlite.limits import SqliteLimits

__all__ = ["SqliteLedger", "SqliteLimits"]
