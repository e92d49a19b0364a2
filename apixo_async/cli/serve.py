"""`apixo emulator`: an APIXO of one's own until Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault, Interrupted
from apixo_async.cli.helping import Verb
from apixo_async.cli.options import fault_option, read_rates

if TYPE_CHECKING:
    import asyncio

    from apixo_async.emulator import Emulator, EmulatorSettings


@click.command(
    cls=Verb,
    short_help="Run an APIXO of your own, for tries and tests.",
    example="apixo emulator --port 8080 --speed 20 --fault failed_task=0.1",
    then=(
        ("apixo batch FILE --base-url http://127.0.0.1:8080", "use it; its key is what it prints"),
        ("apixo batch FILE --emulator", "one of its own for a batch, which ends with it"),
    ),
)
@click.option("--host", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="0 takes any free port.  [default: 0]")
@click.option("--speed", type=float, help="How fast its clock goes.  [default: 1]")
@click.option("--seed", type=int, help="The same seed gives the same durations and faults.")
@click.option(
    "--durations",
    help="How long tasks take: 120, uniform:60:180, normal:120:20, fast=75,quality=150 ...",
)
@click.option("--latency", help="Real seconds before an answer: 0.05 or uniform:0.01:0.2.")
@click.option(
    "--requests-per-minute",
    type=int,
    metavar="N",
    help="More requests in a minute of its clock are answered 429.  [default: 10000]",
)
@click.option(
    "--concurrent-tasks",
    type=int,
    metavar="N",
    help="More unfinished tasks at a time are answered 429.  [default: 1000]",
)
@click.option("--api-key", help="The key that it accepts.  [default: test-key]")
@click.option(
    "--balance", type=float, metavar="USD", help="What its account holds.  [default: 1000000]"
)
@click.option(
    "--result-lifetime",
    type=float,
    metavar="SECONDS",
    help="How long result URLs work.  [default: 15 days]",
)
@click.option(
    "--urls-per-task", type=int, metavar="N", help="How many videos a task has.  [default: 1]"
)
@click.option(
    "--errors-as-http-200", is_flag=True, default=None, help="Errors come with HTTP status 200."
)
@click.option(
    "--insufficient-as",
    type=click.Choice(["400", "200", "402"]),
    help="HTTP status when the balance does not suffice.  [default: 400]",
)
@click.option("--drip-seconds", type=float, help="How long a trickling answer takes.")
@fault_option("--fault", "faults", text="Let something go wrong this often; repeatable.")
@click.option("--list-faults", is_flag=True, help="List the names of all faults and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
def emulator(
    *,
    faults: tuple[str, ...],
    list_faults: bool,
    as_json: bool,
    until_stdin_ends: bool,
    **given: Any,  # noqa: ANN401  # settings as they are named there
) -> None:
    """Run an emulator of the API until Ctrl-C; it prints how to use it.

    It keeps the documented limits, bills, delivers playable videos, and fails on demand. All times
    but latency pass --speed times as fast as real ones.
    """
    from apixo_async.cli.loop import run
    from apixo_async.emulator import EmulatorSettings

    if list_faults:
        _list_faults(as_json=as_json)
        return
    # Not by truth: 0 is a balance, and a speed that has to be refused.
    said = {name: value for name, value in given.items() if value is not None}
    rates = read_rates(faults)
    try:
        settings = EmulatorSettings(faults=rates, **said)
    except ValueError as error:
        raise Fault(str(error), advice="see apixo emulator --help", code=exits.USAGE) from None
    try:
        run(_serve(settings, as_json=as_json, until_stdin_ends=until_stdin_ends))
    except Interrupted:
        pass  # the way it is meant to end
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise Fault(
            f"cannot listen on {where}: {error.strerror or error}",
            advice="take another --port; 0 is any free one",
        ) from None


def _list_faults(*, as_json: bool) -> None:
    from apixo_async.emulator import FAULTS

    if as_json:
        click.echo(json.dumps(dict(FAULTS)))
        return
    width = max(map(len, FAULTS))
    for name, meaning in FAULTS.items():
        click.echo(f"{name:{width}}  {meaning}")


async def _serve(settings: EmulatorSettings, *, as_json: bool, until_stdin_ends: bool) -> None:
    import asyncio

    from apixo_async.emulator import serve

    serving = asyncio.ensure_future(serve(settings, on_ready=_json_line if as_json else _say_how))
    if until_stdin_ends:
        _cancel_when_stdin_ends(serving)
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    else:
        await serving


def _cancel_when_stdin_ends(serving: asyncio.Task[None]) -> None:
    """Ends the emulator when its parent has gone, however that happened."""
    loop = serving.get_loop()

    def watch() -> None:
        # Not through sys.stdin, whose lock a waiting thread would hold while Python shuts down.
        while os.read(sys.stdin.fileno(), 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the loop had ended before
            loop.call_soon_threadsafe(serving.cancel)

    threading.Thread(target=watch, name="apixo-stdin", daemon=True).start()


def _json_line(emulator: Emulator) -> None:
    ready = {
        "base_url": emulator.base_url,
        "api_key": emulator.api_key,
        "speed": emulator.settings.speed,
    }
    click.echo(json.dumps(ready))


def _say_how(emulator: Emulator) -> None:
    address, key = emulator.base_url, emulator.api_key
    click.echo(
        f"emulated APIXO at {address}, its clock goes {emulator.settings.speed:g} times as fast; "
        "Ctrl-C ends it. In another shell:\n"
        f"export APIXO_BASE_URL={address}\n"
        f"export APIXO_API_KEY={key}"
    )
