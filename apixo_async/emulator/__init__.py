"""An APIXO of one's own over HTTP, for demos and tests.

It is written from the API's documents and shares no code with the client in this package: shared
code would share its misreadings.
"""

from apixo_async.emulator.faults import FAULTS
from apixo_async.emulator.ledger import Ledger
from apixo_async.emulator.server import Emulator, serve
from apixo_async.emulator.settings import EmulatorSettings

__all__ = ["FAULTS", "Emulator", "EmulatorSettings", "Ledger", "serve"]
