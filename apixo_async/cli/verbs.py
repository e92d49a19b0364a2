"""What the commands about one video or one task do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

import click

from apixo_async._places import Place
from apixo_async._wire import request_from_row
from apixo_async.cli import exits
from apixo_async.cli.connecting import Connection, connected
from apixo_async.cli.destinations import place_word, ready
from apixo_async.cli.display import is_drawable, is_log
from apixo_async.cli.faults import Fault, Interrupted, command
from apixo_async.cli.loop import run
from apixo_async.cli.options import Options
from apixo_async.cli.results import file_as_json, task_as_json
from apixo_async.cli.text import printable
from apixo_async.client import ApixoClient
from apixo_async.downloads import SavedFile
from apixo_async.errors import DownloadError, InvalidRequestError
from apixo_async.tasks import Task
from apixo_async.veo import Request


def generate(
    given: Mapping[str, Any], *, wait: bool, save_to: Place | None, options: Options
) -> None:
    """Submits the request that `given` speaks of and prints its result, or its id at once."""
    request = _request(**given)
    if save_to is not None:
        ready(save_to)
    with connected(options) as connection:
        job = _Generation(connection, request, options.again)
        try:
            task, files = run(job.run(wait=wait, save_to=save_to))
        except Interrupted:
            if job.task is not None:
                again = command("wait", job.task.id, job.task.model, *options.again)
                click.echo(
                    f"task {job.task.id} goes on and is billed; wait with: {again}", err=True
                )
            raise
    if wait or options.as_json:
        _print(task, files, options)
    else:
        click.echo(printable(task.id))


def _request(
    *,
    first_frame: str | None,
    last_frame: str | None,
    images: Sequence[str],
    extend: str | None,
    **common: Any,  # noqa: ANN401  # checked as a row, not here
) -> Request:
    """The request the options speak of. Raises `Fault` naming every broken rule."""
    frames = [frame for frame in (first_frame, last_frame) if frame is not None]
    if bool(frames) + bool(images) + (extend is not None) > 1:
        raise click.UsageError("frames, --image and --extend exclude each other")
    if frames and first_frame is None:
        raise click.UsageError("--last-frame needs --first-frame")
    row: dict[str, Any] = {**common, "taskId": extend}
    if frames:
        row |= {"generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO", "image_urls": frames}
    elif images:
        row |= {"generationType": "REFERENCE_2_VIDEO", "image_urls": list(images)}
    try:
        return request_from_row(row)
    except InvalidRequestError as error:
        rules = "; ".join(f"{field}: {rule}" for field, rule in error.problems)
        advice = "nothing was sent; mend what is named, apixo generate --help says how"
        raise Fault(rules, advice=advice, code=exits.USAGE) from None


class _Generation:
    """One submit and what follows; `task` is known as soon as it is paid for."""

    def __init__(self, connection: Connection, request: Request, again: Sequence[str]) -> None:
        self._connection = connection
        self._again = again
        self._request = request
        self.task: Task | None = None

    async def run(self, *, wait: bool, save_to: Place | None) -> tuple[Task, list[SavedFile]]:
        """The task and its files, as far as they were asked for."""
        async with self._connection.client() as client:
            self.task = await self._submit(client)
            if not wait:
                return self.task, []
            click.echo(f"accepted as task {printable(self.task.id)}", err=True)
            with _spinning("generating, which usually takes about two minutes"):
                done = await client.wait(self.task)
            return done, await _save(client, done, save_to, self._again)

    async def _submit(self, client: ApixoClient) -> Task:
        submitting = asyncio.ensure_future(client.submit(self._request))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # Interrupted with the POST on its way: its answer holds the id of a paid task.
            if client.statistics().submits_in_flight:
                self.task = await submitting
            submitting.cancel()
            raise


async def _save(
    client: ApixoClient, task: Task, directory: Place | None, again: Sequence[str]
) -> list[SavedFile]:
    if directory is None:
        return []
    try:
        return await client.save(task, directory)
    except DownloadError as error:
        where = ("--save-to", place_word(directory))
        line = command("download", task.id, task.model, *where, *again)
        advice = f"the video is done and paid; again with: {line}"
        raise Fault(str(error), advice=advice) from None


def status(task_id: str, *, model: str, options: Options) -> None:
    """Prints what one status call says."""

    async def ask(connection: Connection) -> Task:
        async with connection.client() as client:
            return await client.status(task_id, model=model)

    with connected(options) as connection:
        task = run(ask(connection))
    if options.as_json:
        _print(task, [], options)
        return
    for name, value in _facts(task):
        click.echo(f"{name}: {printable(value)}")


def _facts(task: Task) -> Iterator[tuple[str, str]]:
    yield "task", task.id
    yield "state", str(task.state)
    reason = ": ".join(part for part in (task.fail_code, task.fail_message) if part)
    if reason:
        yield "reason", reason
    if task.created_at is not None:
        yield "created", f"{task.created_at:%Y-%m-%d %H:%M:%S} UTC"
    if task.duration is not None:
        yield "took", f"{task.duration:.1f} s"
    for url in task.urls:
        yield "url", url
    if task.urls and task.expires_at is not None:
        yield "urls work until about", f"{task.expires_at:%Y-%m-%d %H:%M} UTC"


def wait(task_id: str, *, model: str, save_to: Place | None, options: Options) -> None:
    """Waits for a task and prints its result."""
    if save_to is not None:
        ready(save_to)

    async def follow(connection: Connection) -> tuple[Task, list[SavedFile]]:
        async with connection.client() as client:
            with _spinning(f"waiting for task {printable(task_id)}"):
                task = await client.wait(task_id, model=model)
            return task, await _save(client, task, save_to, options.again)

    with connected(options) as connection:
        task, files = run(follow(connection))
    _print(task, files, options)


def download(task_id: str, *, model: str, save_to: Place, options: Options) -> None:
    """Saves the videos of a finished task."""
    ready(save_to)

    async def fetch(connection: Connection) -> tuple[Task, list[SavedFile]]:
        async with connection.client() as client:
            task = await client.status(task_id, model=model)
            saved = await _save(client, task, save_to, options.again) if task.urls else []
            return task, saved

    with connected(options) as connection:
        task, files = run(fetch(connection))
    if not files:
        advice = "change the request, and generate it again"
        if not task.is_terminal:
            advice = f"wait for it with: {command('wait', task.id, model, *options.again)}"
        raise Fault(f"task {task.id} is {task.state} and has no video to save", advice=advice)
    _print(task, files, options)


def balance(*, options: Options) -> None:
    """Prints what is left on the key."""

    async def ask(connection: Connection) -> float:
        async with connection.client() as client:
            return await client.balance()

    with connected(options) as connection:
        usd = run(ask(connection))
    click.echo(json.dumps({"balance_usd": usd}) if options.as_json else f"{usd:,.2f} USD")


def _print(task: Task, files: Sequence[SavedFile], options: Options) -> None:
    """The result on standard output: JSON, or the files, or else the URLs."""
    if options.as_json:
        whole = {**task_as_json(task), "files": [file_as_json(file) for file in files]}
        click.echo(json.dumps(whole))
        return
    for line in map(str, files or task.urls):
        click.echo(printable(line))


@contextlib.contextmanager
def _spinning(text: str) -> Generator[None]:
    """Shows on a terminal that something is going on."""
    if is_log() or not is_drawable(sys.stderr):
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text)):
        yield
