"""A stand-in for APIXO over HTTP, for demos and tests.

Only the API's documents were its model. Nothing is imported from the client in this package, so
that a mistake about the API has to be made twice before the two agree on it.
"""

from apixo_async.emulator.faults import FAULTS
from apixo_async.emulator.ledger import Ledger
from apixo_async.emulator.server import Emulator, serve
from apixo_async.emulator.settings import EmulatorSettings

__all__ = ["FAULTS", "Emulator", "EmulatorSettings", "Ledger", "serve"]
