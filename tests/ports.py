"""Ports that a test names before anybody listens there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of 127.0.0.1 for a server of this test, also in another process.

    It is bound all the time, so nobody who asks for any free port is given it. That it may be used
    again lets a server that says the same, as those of asyncio do, listen there all the same.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
