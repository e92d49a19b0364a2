"""A PostgreSQL of our own, which may be stopped hard; its files are gone in the end."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

from benchmarks._replicas_processes import cpu_of, cpu_with_ended, members_of

PLACES: Final = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt")
"""Where packages put programs that are on no path, each version in a folder of its own."""
SUPERUSER: Final = "postgres"
SETTINGS: Final = (
    "listen_addresses = '127.0.0.1'",
    "unix_socket_directories = ''",
    "max_connections = 200",
    "logging_collector = off",
)


def programs() -> Path | None:
    """Where `initdb` and `pg_ctl` are; `None` if PostgreSQL is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(place for root in PLACES for place in Path(root).glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@attrs.frozen
class Cluster:
    """A server with one database."""

    programs: Path
    directory: Path
    port: int

    @property
    def url(self) -> str:
        """How it is reached."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Returns when it takes connections."""
        log = str(self.directory / "log")
        self._run("pg_ctl", "--wait", "--pgdata", self._data, "--log", log, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Like a power failure by default: nothing is said to clients, nothing is written."""
        self._run("pg_ctl", "--wait", "--pgdata", self._data, "--mode", mode, "stop")

    def make(self) -> None:
        """Makes its files, and starts it."""
        trust = ["--auth", "trust", "--username", SUPERUSER, "--no-instructions"]
        self._run("initdb", "--pgdata", self._data, *trust)
        with Path(self._data, "postgresql.conf").open("a") as settings:
            settings.write("\n".join((*SETTINGS, f"port = {self.port}", "")))
        self.start()

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped."""
        return Path(self._data, "postmaster.pid").exists()

    def cpu(self) -> float:
        """Seconds of CPU of all its processes since it was started last."""
        postmaster = int(Path(self._data, "postmaster.pid").read_text().split()[0])
        return cpu_with_ended(postmaster) + sum(map(cpu_of, members_of(postmaster)))

    @property
    def _data(self) -> str:
        return str(self.directory / "data")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*as_owner(), str(self.programs / program), *arguments]
        # The server must not inherit a pipe: whoever reads from it would wait for its end.
        with (self.directory / "output").open("a") as output:
            done = subprocess.run(
                command, cwd=self.directory, stdout=output, stderr=output, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {(self.directory / 'output').read_text()[-2_000:]}")


def as_owner() -> Sequence[str]:
    """PostgreSQL refuses to run as root."""
    return ("runuser", "-u", SUPERUSER, "--") if os.getuid() == 0 else ()


@contextmanager
def cluster() -> Generator[Cluster]:
    """A server that is there while the block lasts."""
    found = programs()
    if found is None:
        raise RuntimeError("PostgreSQL is not installed: initdb is not found")
    directory = Path(tempfile.mkdtemp(prefix="replicas-"))
    try:
        if getpass.getuser() == "root":
            shutil.chown(directory, SUPERUSER)
        own = Cluster(found, directory, free_port())
        own.make()
        try:
            yield own
        finally:
            if own.is_running:
                own.stop("fast")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
