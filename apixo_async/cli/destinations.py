"""Where a command saves to: the option's value, what is checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from apixo_async._commands import command_line, file_word
from apixo_async._places import OBJECT_STORES, Place, is_url, read_place, scheme_of
from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.cli.text import printable
from apixo_async.errors import InvalidSettingError

_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)


def as_place(ctx: click.Context, param: click.Parameter, value: str | None) -> Place | None:
    """The place in the value of an option; a URL keeps its form, which a path would change."""
    if value is None:
        return None
    try:
        place = read_place(value, name="--save-to")
    except InvalidSettingError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return place if isinstance(place, str) else Path(_DIRECTORY.convert(place, param, ctx))


def place_word(place: Place) -> str:
    """A place as an argument."""
    return place if isinstance(place, str) else file_word(place)


def ready(place: Place) -> None:
    """Begins a file there before anything is paid for; a directory that is missing is made."""
    _try(place, keep=True)


def check(place: Place) -> None:
    """As `ready`, but leaves everything as it is."""
    _try(place, keep=False)


def _try(place: Place, *, keep: bool) -> None:
    from apixo_async.downloads.directory import Directory
    from apixo_async.downloads.storage import Storage

    try:
        if isinstance(place, str):
            Storage(place).check_now()
        else:
            Directory(place).check_now(keep=keep)
    except InvalidSettingError as error:
        message = str(error)
    else:
        return
    raise Fault(
        message,
        advice="nothing was sent; mend that, or --save-to another place",
        code=exits.USAGE,
    )


def in_force(given: Place | None, noted: Mapping[str, Any], journal: Path) -> Place | None:
    """Where a resumed batch saves to: what was said now, else what is noted, which is then told.

    Raises `Fault` if credentials would go to a host that only the journal names.
    """
    kept = noted.get("save_to")
    if given is not None or kept is None:
        return given
    if not is_url(kept):
        return Path(kept)
    try:
        place = read_place(kept)
    except InvalidSettingError as error:
        raise Fault(
            f"{journal}: {error}",
            advice="say where to save to with --save-to",
            code=exits.USAGE,
        ) from None
    if scheme_of(str(place)) not in OBJECT_STORES | {"memory"}:
        again = command_line("resume", file_word(journal), options=("--save-to", str(place)))
        raise Fault(
            f"by {journal}, the videos of this batch went to {place}; nothing was sent",
            advice=f"if your credentials may go there: {again}",
            code=exits.USAGE,
        )
    click.echo(
        f"as noted in {printable(str(journal))}: --save-to {printable(str(place))}", err=True
    )
    return place
