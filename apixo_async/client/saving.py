"""Results of a task to files: what the downloader, which knows no tasks, is told to fetch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

import attrs

from apixo_async._places import Place
from apixo_async.client.engine import Engine
from apixo_async.downloads import Destination, Directory, Downloader, SavedFile, file_names
from apixo_async.errors import ApixoError, ClientUsageError, DownloadError
from apixo_async.tasks import RESULT_LIFETIME, Task

_GONE: Final = "gone"


class SaveObserver(Protocol):
    """Told of every file of a save; what keeps a record of it waits here for its disk.

    Each method is awaited before the save goes on; an error raised there ends the save.
    """

    async def naming(self, file: SavedFile) -> None:
        """The content is complete and durable and is about to get this name.

        Called again with the next name if a neighbour takes this one first. An error raised here
        removes the content.

        Args:
            file: The file as it will be.
        """

    async def saved(self, file: SavedFile) -> None:
        """The file has its name.

        Args:
            file: The file as it is.
        """


class Saver:
    """Saves the results of one client's tasks."""

    def __init__(
        self,
        engine: Engine,
        *,
        allow_private_hosts: bool | None,
        api_url: str,
        storage_options: Mapping[str, Any] | None,
    ) -> None:
        self._engine = engine
        self._storage_options = dict(storage_options or {})
        self._destinations: dict[str, Destination] = {}
        self._allow_private_hosts = allow_private_hosts
        self._api_url = api_url
        self._downloader: Downloader | None = None

    def destination(self, place: Place) -> Destination:
        """Where the results go that are saved to a place; opened once, when it is first used."""
        if not isinstance(place, str):
            return Directory(place)
        if place not in self._destinations:
            from apixo_async.downloads.storage import Storage  # noqa: PLC0415  # for URLs alone

            self._destinations[place] = Storage(place, self._storage_options)
        return self._destinations[place]

    async def save(
        self,
        task: Task,
        place: Place,
        *,
        name: str | None,
        overwrite: bool,
        only: Collection[int] | None,
        observer: SaveObserver | None,
    ) -> list[SavedFile]:
        """The results of a task, one after the other.

        Raises `DownloadError`, and `InvalidSettingError` for a storage whose package is missing.
        """
        self._engine.open()
        if not task.urls:
            msg = f"task {task.id} ({task.state}) has no result to download"
            raise DownloadError(msg, url="", reason="no_urls")
        if self._downloader is None:
            self._downloader = Downloader(
                allow_private_hosts=self._allow_private_hosts, api_url=self._api_url
            )
        save = partial(
            self._downloader.save,
            to=self.destination(place),
            overwrite=overwrite,
            about_to_name=None if observer is None else observer.naming,
        )
        source = _Source(self._engine, task)
        files: list[SavedFile] = []
        stems = file_names(name if name is not None else task.id, len(task.urls))
        for index, stem in stems.items():
            if only is not None and index not in only:
                continue
            file = await source.fetched(index, partial(save, stem=stem))
            files.append(file)
            if observer is not None:
                await observer.saved(file)
        return files

    async def aclose(self) -> None:
        """Closes what was opened."""
        for destination in self._destinations.values():
            destination.close()
        self._destinations.clear()
        if self._downloader is not None:
            await self._downloader.aclose()


@attrs.define
class _Source:
    """Where the results of one task are; asked again once, as URLs may have been signed anew."""

    _engine: Engine
    _task: Task
    _urls: Sequence[str] = attrs.field(init=False)
    _is_fresh: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._urls = self._task.urls

    async def fetched(self, index: int, save: Callable[[str], Awaitable[SavedFile]]) -> SavedFile:
        """What `save` makes of result `index`, tried at its fresh URL, too, if it has gone."""
        while True:
            try:
                return await save(self._urls[index])
            except DownloadError as error:
                if error.reason != _GONE:
                    raise
                lost = error
            if self._is_fresh:
                raise self._end(lost, "nor does its status give another place")
            await self._renew(lost, index)

    async def _renew(self, lost: DownloadError, index: int) -> None:
        self._is_fresh = True
        try:
            self._task = await self._engine.look(self._task.id, self._task.model)
        except ClientUsageError:
            raise
        except ApixoError as error:
            failure = self._end(lost, f"and its status call failed: {error}")
        else:
            if index < len(self._task.urls):
                self._urls = self._task.urls
                return
            failure = self._end(lost, "nor does its status give another place")
        raise failure

    def _end(self, lost: DownloadError, detail: str) -> DownloadError:
        is_old = has_expired(self._task, datetime.now(UTC))
        why = f"as results are kept for {RESULT_LIFETIME.days} days" if is_old else detail
        message = f"the result of task {self._task.id} is no longer at {lost.url}, {why}"
        reason = "expired" if is_old else _GONE
        return DownloadError(message, url=lost.url, reason=reason, http_status=lost.http_status)


def has_expired(task: Task, now: datetime) -> bool:
    """Whether the results of a task are past their time at `now`, as far as its stamps tell."""
    if task.expires_at is not None:
        return now >= task.expires_at
    return task.created_at is not None and now - task.created_at >= RESULT_LIFETIME
