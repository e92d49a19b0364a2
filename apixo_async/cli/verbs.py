"""What the commands about one video or one task do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from apixo_async._commands import file_word
from apixo_async._wire import request_from_row
from apixo_async.cli import exits
from apixo_async.cli.connecting import Connection, connected, ready_directory
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
    given: Mapping[str, Any], *, wait: bool, save_to: Path | None, options: Options
) -> None:
    """Submits the request that `given` speaks of and prints its result, or its id at once."""
    request = _request(**given)
    if save_to is not None:
        ready_directory(save_to)
    with connected(options) as connection:
        job = _Generation(connection, request)
        try:
            task, files = run(job.run(wait=wait, save_to=save_to))
        except Interrupted:
            if job.task is not None:
                again = command("wait", job.task.id, job.task.model)
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
        raise Fault(rules, advice="nothing was sent", code=exits.USAGE) from None


class _Generation:
    """One submit and what follows; `task` is known as soon as it is paid for."""

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self._request = request
        self.task: Task | None = None

    async def run(self, *, wait: bool, save_to: Path | None) -> tuple[Task, list[SavedFile]]:
        """The task and its files, as far as they were asked for."""
        async with self._connection.client() as client:
            self.task = await self._submit(client)
            if not wait:
                return self.task, []
            click.echo(f"accepted as task {printable(self.task.id)}", err=True)
            with _spinning("generating, which usually takes about two minutes"):
                done = await client.wait(self.task)
            return done, await _save(client, done, save_to)

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


async def _save(client: ApixoClient, task: Task, directory: Path | None) -> list[SavedFile]:
    if directory is None:
        return []
    try:
        return await client.save(task, directory)
    except DownloadError as error:
        again = command("download", task.id, task.model, "--save-to", file_word(directory))
        advice = f"the video is done and paid; again with: {again}"
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


def wait(task_id: str, *, model: str, save_to: Path | None, options: Options) -> None:
    """Waits for a task and prints its result."""
    if save_to is not None:
        ready_directory(save_to)

    async def follow(connection: Connection) -> tuple[Task, list[SavedFile]]:
        async with connection.client() as client:
            with _spinning(f"waiting for task {printable(task_id)}"):
                task = await client.wait(task_id, model=model)
            return task, await _save(client, task, save_to)

    with connected(options) as connection:
        task, files = run(follow(connection))
    _print(task, files, options)


def download(task_id: str, *, model: str, save_to: Path, options: Options) -> None:
    """Saves the videos of a finished task."""
    ready_directory(save_to)

    async def fetch(connection: Connection) -> tuple[Task, list[SavedFile]]:
        async with connection.client() as client:
            task = await client.status(task_id, model=model)
            return task, await _save(client, task, save_to) if task.urls else []

    with connected(options) as connection:
        task, files = run(fetch(connection))
    if not files:
        advice = "" if task.is_terminal else f"wait for it with: {command('wait', task.id, model)}"
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
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
