"""Writing a report: where it may go, and a page that is there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import IO, Final

from apixo_async.batch.journal import JournalReader
from apixo_async.batch.report.gathering import gathered
from apixo_async.batch.report.page import GENERATOR, page
from apixo_async.batch.spending import Money, Prices
from apixo_async.errors import InvalidSettingError

PAGE: Final = "index.html"
_HEAD: Final = 1_024
"""Bytes of a page within which it says who made it."""


def write_report(
    journal: str | PathLike[str],
    directory: str | PathLike[str] = "report",
    *,
    prices: Prices | Mapping[str, Money] | None = None,
) -> Path:
    """Writes the page about a batch and returns its path.

    The page opens from disk and asks no network: saved videos are played from where they are, by
    relative paths, so keep the directories as they lie; others from their URLs, once somebody
    presses play, as long as they live. It shows one moment of the journal, also while a process
    writes it. Blocks for seconds with thousands of jobs, so call it in a thread where an event loop
    runs.

    Args:
        journal: The journal of the batch.
        directory: Where the page goes. An earlier report there is replaced at once and as a whole;
            nothing is left behind where that fails.
        prices: US dollars for one generation, by name (see `Prices`), for the estimated cost;
            `None` takes those that the batch was started with.

    Raises:
        JournalError: The journal cannot be read, or is damaged.
        InvalidSettingError: The directory holds anything else than a report.
        OSError: It cannot be written.
    """
    now = datetime.now(UTC)
    target = Path(directory)
    check_target(target)
    with JournalReader(Path(journal)) as reader:
        given = prices if isinstance(prices, Prices) else Prices(prices or {})
        known = given or Prices(reader.options().get("prices") or {})
        # Links are relative to where the directory really is.
        place = Path(os.path.realpath(target))
        with gathered(reader, place, known, now=now) as found, _replacing(target) as file:
            for piece in page(found):
                file.write(piece)
    return target / PAGE


def check_target(directory: Path) -> None:
    """Raises `InvalidSettingError` for what is no directory of ours, and not free to become one."""
    if not os.path.lexists(directory):
        if not directory.absolute().parent.is_dir():
            msg = f"cannot write {directory}: there is no directory {directory.parent}"
            raise InvalidSettingError(msg)
        return
    if not directory.is_dir():
        msg = f"{directory} is there already and is no directory; nothing was written"
        raise InvalidSettingError(f"{msg}; take another name")
    if any(directory.iterdir()) and not _is_ours(directory / PAGE):
        msg = f"{directory} is there already and holds no report of ours; nothing was written"
        raise InvalidSettingError(f"{msg}; take another directory, or empty this one")


def _is_ours(page_file: Path) -> bool:
    try:
        with page_file.open("rb") as file:
            return GENERATOR.encode() in file.read(_HEAD)
    except OSError:
        return False


@contextmanager
def _replacing(directory: Path) -> Generator[IO[str]]:
    """The page, which gets its name when all of it is on disk; for its owner alone."""
    is_new = not directory.exists()
    directory.mkdir(mode=0o700, exist_ok=True)
    name: str | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=".index.", suffix=".new")
        # Half characters, which no UTF-8 can hold, are shown as question marks.
        with open(descriptor, "w", encoding="utf-8", errors="replace", newline="") as file:  # noqa: PTH123  # a descriptor
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(directory / PAGE)
    except BaseException:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        if is_new:
            with suppress(OSError):
                directory.rmdir()
        raise
