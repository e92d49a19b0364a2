"""Help that shows how a command is used and what comes after it, and errors that lead on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault

NEAR: Final = 0.5
"""How much alike two names have to be for one to be meant by the other."""


FEW: Final = 10
"""Options that need no sections."""
SECTIONS: Final = {
    "What it may cost": ("max_cost", "prices", "uncertain", "retry_codes", "retries"),
    "Your account": ("base_url", "api_key_file", "requests_per_minute", "concurrent_tasks"),
    "When to look": ("schedule", "first_poll", "poll_every", "poll_share", "deadline"),
    "Callbacks": ("webhook_url", "webhook_port", "webhook_host"),
    "Emulator": ("emulator", "emulator_speed", "emulator_fault"),
}
"""Options by what they are for, in commands that have many."""


class Verb(click.Command):
    """A command whose help ends with an example that works, and with what comes next.

    `example` is a whole command line, `then` are command lines with what each is for.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401  # those of click
        example: str,
        then: Sequence[tuple[str, str]] = (),
        **kwargs: Any,  # noqa: ANN401  # those of click
    ) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.then = tuple(then)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, many of them by what they are for."""
        own, sections = list[tuple[str, str]](), dict[str, list[tuple[str, str]]]()
        shown = [one for one in self.get_params(ctx) if one.get_help_record(ctx) is not None]
        title_of = {name: title for title, names in SECTIONS.items() for name in names}
        for param in shown:
            title = title_of.get(param.name or "") if len(shown) > FEW else None
            rows = own if title is None else sections.setdefault(title, [])
            rows.append(param.get_help_record(ctx) or ("", ""))
        for title, rows in {"Options": own, **sections}.items():
            with formatter.section(title):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes both below the options."""
        write_example(formatter, self.example)
        write_then(formatter, self.then)
        super().format_epilog(ctx, formatter)


def write_example(formatter: click.HelpFormatter, *examples: str) -> None:
    """A section of command lines, which are never broken, so that they can be copied."""
    with formatter.section("Example"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def write_then(formatter: click.HelpFormatter, then: Sequence[tuple[str, str]]) -> None:
    """A section of command lines with what each is for."""
    if not then:
        return
    with formatter.section("What comes next"):
        formatter.write_dl(list(then))


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Up to three of the names that may have been meant, the likeliest first."""
    from difflib import get_close_matches

    names = list(names)
    begun = [one for one in names if len(name) > 1 and one.startswith(name)]
    return (begun or get_close_matches(name, names, n=3, cutoff=NEAR))[:3]


def usage_fault(error: click.ClickException) -> Fault:
    """What click has against a command line, as we say it: with what to do."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = "apixo" if context is None else context.command_path
    command = None if context is None else context.command
    advice = f"{path} --help shows what there is"
    if isinstance(command, Verb):
        advice = f"{path} --help shows all options; an example: {command.example}"
    message = error.format_message().rstrip(".")
    return Fault(message[:1].lower() + message[1:], advice=advice, code=exits.USAGE)
