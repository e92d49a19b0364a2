"""What is said before a batch goes on whose API, an emulator, may be gone. Nothing is given up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from apixo_async.cli import journals
from apixo_async.cli.options import Options
from apixo_async.cli.text import counted, printable

if TYPE_CHECKING:
    from apixo_async.batch.journal.noted import Noted

PATIENCE: Final = 0.5
"""Seconds for an address of this machine to answer; only a refusal says anything."""
_PORTS: Final = {"http": 80, "https": 443}


def warnings(noted: Noted, options: Options, journal: Path) -> Iterator[str]:
    """Lines about tasks that nobody may know any more; `options` are those in force."""
    from apixo_async.batch.journal.overview import Standing

    running = noted.counts[Standing.RUNNING]
    if not running:
        return
    abandon = journals.command("settle", journal, "KEY", options=("--abandon",))
    if options.emulator:
        if noted.options.get("is_emulated"):
            yield (
                f"{counted(running, 'task')} of the emulator that is gone are unknown to the new "
                f"one, and waited for until --deadline; to end that wait: {abandon}"
            )
    elif options.base_url is not None and refuses(options.base_url):
        yield (
            f"nothing listens at {printable(options.base_url)}; "
            f"{counted(running, 'task')} there are looked for until --deadline. If that was an "
            f"emulator, start it again, or end the wait: {abandon}"
        )


def refuses(url: str) -> bool:
    """Whether this is an address of this machine at which nothing listens."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS.get(parts.scheme, 0)
        if host != "localhost" and not ip_address(host).is_loopback:
            return False
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError):  # no address, or one of which nothing is known
        return False
    return False
