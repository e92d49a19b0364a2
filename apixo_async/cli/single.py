"""Commands about one video or one task: their arguments; what they do is in `verbs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from apixo_async._places import Place
from apixo_async.cli.helping import Verb
from apixo_async.cli.options import Options, model, save_to, shared
from apixo_async.veo import AspectRatio, Mode, Provider


@click.command(
    cls=Verb,
    short_help="Generate one video.",
    example='apixo generate "a calm ocean" --mode fast --save-to videos/',
    then=(
        ("apixo generate PROMPT --emulator", "the same without a key and without cost"),
        ("apixo batch FILE", "a whole file of prompts"),
    ),
)
@click.argument("prompt")
@click.option("--mode", type=click.Choice(get_args(Mode)), help="quality is dearer and slower.")
@click.option(
    "--aspect-ratio",
    type=click.Choice(get_args(AspectRatio)),
    help="The shape of the picture.  [default: 16:9]",
)
@click.option("--seed", type=int, help="Makes the result repeatable as far as the model allows.")
@click.option("--watermark", metavar="TEXT", help="Text shown in the picture.")
@click.option("--first-frame", metavar="URL", help="The picture that the video begins with.")
@click.option("--last-frame", metavar="URL", help="The picture that it ends with.")
@click.option(
    "--image", "images", multiple=True, metavar="URL", help="A reference picture; 1 to 3 of them."
)
@click.option("--extend", metavar="TASK_ID", help="Continue the video of a finished task.")
@click.option("--provider", type=click.Choice(get_args(Provider)), help="The API's routing.")
@click.option("--no-wait", is_flag=True, help="Print the task id and leave.")
@save_to
@shared(waiting=True, emulator=True)
def generate(*, no_wait: bool, save_to: Place | None, options: Options, **given: Any) -> None:  # noqa: ANN401  # see _request
    """Generate one video from PROMPT and print its URL, or its file with --save-to."""
    from apixo_async.cli import verbs

    verbs.generate(given, wait=not no_wait, save_to=save_to, options=options)


@click.command(
    cls=Verb,
    short_help="Show the state of a task.",
    example="apixo status TASK_ID",
    then=(
        ("apixo wait TASK_ID", "wait until it ends"),
        ("apixo download TASK_ID", "save its videos once it has succeeded"),
    ),
)
@click.argument("task_id")
@model
@shared()
def status(*, task_id: str, model: str, options: Options) -> None:
    """Ask for the state of a task once."""
    from apixo_async.cli import verbs

    verbs.status(task_id, model=model, options=options)


@click.command(
    cls=Verb,
    short_help="Wait for a task to end.",
    example="apixo wait TASK_ID --save-to videos/",
    then=(("apixo download TASK_ID", "save its videos later; the URLs work for 15 days"),),
)
@click.argument("task_id")
@model
@save_to
@shared(waiting=True)
def wait(*, task_id: str, model: str, save_to: Place | None, options: Options) -> None:
    """Wait until a task ends and print its URL, or its file with --save-to."""
    from apixo_async.cli import verbs

    verbs.wait(task_id, model=model, save_to=save_to, options=options)


@click.command(
    cls=Verb,
    short_help="Save the videos of a finished task.",
    example="apixo download TASK_ID --save-to videos/",
    then=(("apixo resume RUN.DB --save-to DIR", "save all that a batch has generated"),),
)
@click.argument("task_id")
@model
@save_to
@shared()
def download(*, task_id: str, model: str, save_to: Place | None, options: Options) -> None:
    """Save the videos of a finished task, by default into the current directory."""
    from apixo_async.cli import verbs

    verbs.download(task_id, model=model, save_to=save_to or Path(), options=options)


@click.command(
    cls=Verb,
    short_help="Show what is left on the key.",
    example="apixo balance --json",
    then=(("apixo plan FILE --price fast=0.20", "what a file would cost"),),
)
@shared()
def balance(*, options: Options) -> None:
    """Print the US dollars that are left on the key."""
    from apixo_async.cli import verbs

    verbs.balance(options=options)
