"""Callbacks: URLs that nobody can forge, and what takes them in. Nothing of them is believed."""

from apixo_async.webhooks.capabilities import Signer, Slip
from apixo_async.webhooks.orphans import Callback, MemoryOrphans, Orphans, SharedOrphans
from apixo_async.webhooks.receiver import WebhookReceiver
from apixo_async.webhooks.reception import ReceiverStatistics

__all__ = [
    "Callback",
    "MemoryOrphans",
    "Orphans",
    "ReceiverStatistics",
    "SharedOrphans",
    "Signer",
    "Slip",
    "WebhookReceiver",
]
