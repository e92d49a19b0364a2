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
from apixo_async.cli.helping import nearest, usage_fault, write_example, write_then
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
    "completion": "completion",
}
"""Which module holds which command."""
_SECTIONS: Final = {
    "Generate one video": ("generate", "status", "wait", "download"),
    "Generate a whole file": ("plan", "batch", "resume"),
    "Look after a batch": ("show", "report", "settle", "export"),
    "Account and development": ("balance", "emulator", "completion"),
}
"""Which commands stand together in `apixo --help`; any other stands below them."""
_EXAMPLES: Final = (
    'echo "a calm ocean turning into a storm" | apixo batch - --emulator',
    "apixo batch prompts.jsonl --journal run.db --save-to videos/",
)
_THEN: Final = (
    ("apixo COMMAND --help", "what a command does, with an example"),
    ("apixo plan FILE", "what a file would cost, before you pay"),
    ("apixo completion --help", "how your shell completes all this"),
)


class App(click.Group):
    """Loads commands when they are needed and turns expected errors into a line for the user."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click asks so
        """All names, in the order in which one needs them."""
        return list(_COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands by what they are for, then where to begin."""
        shown = {name for names in _SECTIONS.values() for name in names}
        others = tuple(name for name in _COMMANDS if name not in shown)
        width = max(map(len, _COMMANDS))
        limit = formatter.width - 6 - width
        for title, names in {**_SECTIONS, "Other commands": others}.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            rows = [
                (name.ljust(width), command.get_short_help_str(limit))
                for name, command in found
                if command is not None
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        write_example(formatter, *_EXAMPLES)
        write_then(formatter, _THEN)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named first; a name that none has is answered with the nearest."""
        name = args[0]
        if name in _COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = " or ".join(map(repr, nearest(name, _COMMANDS)))
        meant = f"; did you mean {near}?" if near else ""
        raise click.UsageError(f"no such command {name!r}{meant}", ctx)

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
        except click.UsageError as error:
            usage_fault(error).show()
            raise click.exceptions.Exit(exits.USAGE) from None

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # as in click
        """Runs the command; nothing that was to be expected leaves here as a traceback."""
        try:
            return super().invoke(ctx)
        except Fault as fault:
            fault.show()
            ctx.exit(fault.code)
        except click.ClickException as error:
            usage_fault(error).show()
            ctx.exit(exits.USAGE)
        except Interrupted as interrupted:
            ctx.exit(exits.SIGNAL_BASE + interrupted.number)
        except KeyboardInterrupt:
            ctx.exit(130)
        except ApixoError as error:
            shown = Fault.of(error, getattr(ctx.obj, "again", ()))
            shown.show()
            ctx.exit(shown.code)
        except OSError as error:
            if error.errno == errno.EPIPE:
                _leave_unread()
            Fault.of(error).show()
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


@click.group(
    cls=App,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def apixo(ctx: click.Context) -> None:
    """Video generation with APIXO's Veo 3.1: one video, or thousands at full speed.

    The key comes from the environment variable APIXO_API_KEY. With --emulator everything can be
    tried without a key and without cost.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
