"""The client: what an application awaits."""

from apixo_async.client.callbacks import Ticket
from apixo_async.client.engine import Engine
from apixo_async.client.saving import SaveObserver
from apixo_async.client.submission import BY_CALLBACK, Answer, SubmitObserver
from apixo_async.client.verbs import ApixoClient, ClientStatistics

__all__ = [
    "BY_CALLBACK",
    "Answer",
    "ApixoClient",
    "ClientStatistics",
    "Engine",
    "SaveObserver",
    "SubmitObserver",
    "Ticket",
]
