"""`apixo completion`: what makes a shell complete commands, options, journals and keys."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Final

import click

from apixo_async.cli import exits
from apixo_async.cli.faults import Fault
from apixo_async.cli.helping import Verb

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_APIXO_COMPLETE"
"""Where click looks for what a shell asks."""


@click.command(
    cls=Verb,
    short_help="Let your shell complete commands, options, journals.",
    example='eval "$(apixo completion bash)"',
    then=(
        ('eval "$(apixo completion bash)"', "in ~/.bashrc"),
        ('eval "$(apixo completion zsh)"', "in ~/.zshrc, below compinit"),
        ("apixo completion fish | source", "in ~/.config/fish/config.fish"),
    ),
)
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(*, shell: str | None) -> None:
    """Print the script that makes SHELL complete what is typed after apixo.

    Completed are commands, options, their values, journals, and the keys of a journal's jobs.
    Without SHELL it is the one that $SHELL names.
    """
    from click.shell_completion import get_completion_class

    from apixo_async.cli.app import apixo

    shell = shell or _own_shell()
    found = get_completion_class(shell)
    if found is None:  # pragma: no cover  # click has all three
        raise Fault(f"click knows no {shell}", advice="take another shell", code=exits.USAGE)
    click.echo(found(apixo, {}, "apixo", VARIABLE).source())


def _own_shell() -> str:
    name = PurePath(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise Fault(
            f"completion for {name or 'this shell'} is not known",
            advice=f"name one of {', '.join(SHELLS)}: apixo completion bash",
            code=exits.USAGE,
        )
    return name
