"""The group of commands, and the border at which errors become one line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault, Interrupted
from apixo_async.errors import ApixoError

_COMMANDS: Final = {
    "generate": "single",
    "plan": "plan",
    "batch": "batch",
    "resume": "resume",
    "show": "show",
    "export": "export",
    "report": "report",
    "settle": "settle",
    "status": "single",
    "wait": "single",
    "download": "single",
    "balance": "single",
    "emulator": "serve",
}
"""Which module holds which command, in the order of `--help`."""


class App(click.Group):
    """Loads commands when they are needed and turns expected errors into a line for the user."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click asks so
        """All names, in the order in which one needs them."""
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  # click asks so
        cmd_name: str,
    ) -> click.Command | None:
        """The command of that name; importing it imports nothing heavy."""
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"apixo_async.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401  # as in click
        """Reads the arguments, which may print the help."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            _leave_unread()

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # as in click
        """Runs the command; nothing that was to be expected leaves here as a traceback."""
        try:
            return super().invoke(ctx)
        except Fault as fault:
            fault.show()
            ctx.exit(fault.code)
        except Interrupted as interrupted:
            ctx.exit(exits.SIGNAL_BASE + interrupted.number)
        except KeyboardInterrupt:
            ctx.exit(130)
        except ApixoError as error:
            shown = Fault.of(error)
            shown.show()
            ctx.exit(shown.code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                _leave_unread()
            Fault(str(error) or type(error).__name__).show()
            ctx.exit(exits.FAILED)


def _leave_unread() -> NoReturn:
    """Ends as programs do whose output nobody reads any more; click would say that we failed."""
    # What is buffered could not be written at the end either, which Python would complain about.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exits.SIGNAL_BASE + getattr(signal, "SIGPIPE", 13))


def _show_version(ctx: click.Context, _: click.Parameter, value: object) -> None:
    from importlib.metadata import PackageNotFoundError, version

    if value and not ctx.resilient_parsing:
        try:
            number = version("apixo-async")
        except PackageNotFoundError:
            number = "unknown"
        click.echo(f"apixo {number}")
        ctx.exit()


@click.group(cls=App, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def apixo() -> None:
    """Video generation with APIXO's Veo 3.1: one video, or thousands at full speed.

    The key comes from the environment variable APIXO_API_KEY. To try everything without a key and
    without cost: apixo batch FILE --emulator.
    """
