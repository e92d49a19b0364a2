"""All that a page shows, from one moment of a journal; rows of jobs wait on disk."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import attrs
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from apixo_async.batch.journal import JournalReader, Overview, Traffic
from apixo_async.batch.report.advice import Commands
from apixo_async.batch.report.figures import Figures
from apixo_async.batch.report.rows import RowMaker
from apixo_async.batch.spending import Prices

IN_MEMORY: Final = 8_000_000
"""Bytes of rows that wait in memory; more wait in a file without a name."""
BLOCK: Final = 1_000
"""Rows that the page reads at a time."""


class Rows:
    """Rows as JSON that may stand in a page, one a line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, row: list[Any]) -> None:
        """One more; whatever is in it cannot end the element that it will stand in."""
        self._file.write(f"{htmlsafe_json_dumps(row, separators=(',', ':'))}\n")

    def blocks(self) -> Iterator[Markup]:
        """JSON lists of up to `BLOCK` rows."""
        self._file.seek(0)
        while lines := list(islice(self._file, BLOCK)):
            yield Markup(f"[{','.join(line[:-1] for line in lines)}]")  # noqa: S704  # see `add`


@attrs.frozen(kw_only=True)
class Gathered:
    """What one moment of a journal says."""

    journal: Path
    options: Mapping[str, Any]
    overview: Overview
    figures: Figures
    traffic: Sequence[Traffic] | None
    """`None` where the journal is too old to have any."""
    kinds: Sequence[tuple[str, str | None]]
    origins: Sequence[str]
    """Where results are played from that are not saved."""
    rows: Rows
    commands: Commands

    @property
    def clock(self) -> str:
        """What to say beside a number that is one of an emulator's clock; else nothing."""
        speed = self.figures.speed
        return "" if speed in {None, 1.0} else f" (clock x{speed:g})"


@contextmanager
def gathered(
    reader: JournalReader, place: Path, prices: Prices, *, now: datetime
) -> Generator[Gathered]:
    """Goes through the journal for a page in the directory `place`.

    Memory stays flat but for some ten bytes for each ended job. Raises `JournalError` for damage.
    """
    options = reader.options()
    figures = Figures(speed=_speed(options))
    with (
        tempfile.SpooledTemporaryFile(
            IN_MEMORY, "w+", encoding="utf-8", newline="\n", prefix="apixo-report-"
        ) as file,
        reader.snapshot(),
    ):
        rows, overview = Rows(file), reader.overview(prices, now=now)
        commands = Commands(reader.path, save_to=overview.save_to)
        maker = RowMaker(
            place,
            now=now,
            is_owned=overview.owner is not None,
            commands=commands,
            group_of=figures.group_of,
        )
        for entry, files in reader.with_files():
            figures.add(entry)
            row = maker.row(entry, files)
            rows.add(row)
            if row[REASON] >= 0:
                figures.keep_example(row[REASON], row[KEY], row[PROMPT])
        yield Gathered(
            journal=reader.path,
            options=options,
            overview=overview,
            figures=figures,
            traffic=reader.traffic(),
            kinds=maker.kinds,
            origins=sorted(maker.origins),
            rows=rows,
            commands=commands,
        )


def _speed(options: Mapping[str, Any]) -> float | None:
    """How fast the API's clock went; `None` if it was an emulator's and that is not noted."""
    noted = options.get("emulator_speed") if options.get("is_emulated") else 1.0
    if isinstance(noted, (int, float)) and math.isfinite(noted) and noted > 0:
        return float(noted)
    return None


KEY: Final = 0
PROMPT: Final = 1
REASON: Final = 10
"""Places of a row; the page's script has all of them."""
