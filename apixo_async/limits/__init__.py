"""The gate that holds both limits of the account: requests a minute and unfinished tasks."""

from apixo_async.limits.buckets import BucketSize, bucket_size
from apixo_async.limits.gate import Gate
from apixo_async.limits.rate import Permit
from apixo_async.limits.settings import Limits
from apixo_async.limits.slots import Lease, Slots
from apixo_async.limits.statistics import GateStatistics
from apixo_async.limits.turns import Turn

__all__ = [
    "BucketSize",
    "Gate",
    "GateStatistics",
    "Lease",
    "Limits",
    "Permit",
    "Slots",
    "Turn",
    "bucket_size",
]
