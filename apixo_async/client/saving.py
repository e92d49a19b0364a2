"""Results of a task to files: what the downloader, which knows no tasks, is told to fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from apixo_async.client.engine import Engine
from apixo_async.downloads import Downloader, SavedFile, file_names
from apixo_async.errors import DownloadError
from apixo_async.tasks import Task


class SaveObserver(Protocol):
    """Told of every file of a save; what keeps a record of it waits here for its disk.

    Each method is awaited before the save goes on; an error raised there ends the save.
    """

    async def naming(self, file: SavedFile) -> None:
        """The content is complete and durable and is about to get this name.

        Called again with the next name if a neighbour takes this one first. An error raised here
        removes the content.
        """

    async def saved(self, file: SavedFile) -> None:
        """The file has its name."""


class Saver:
    """Saves the results of one client's tasks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._downloader: Downloader | None = None

    async def save(
        self,
        task: Task,
        directory: Path,
        *,
        name: str | None,
        overwrite: bool,
        observer: SaveObserver | None,
    ) -> list[SavedFile]:
        """All results of a task, one after the other; raises `DownloadError`."""
        self._engine.open()
        if not task.urls:
            msg = f"task {task.id} ({task.state}) has no result to download"
            raise DownloadError(msg, url="", reason="no_urls")
        if self._downloader is None:
            self._downloader = Downloader()
        stems = file_names(name if name is not None else task.id, len(task.urls))
        files: list[SavedFile] = []
        for index, url in enumerate(task.urls):
            file = await self._downloader.save(
                url,
                directory,
                stems[index],
                overwrite=overwrite,
                about_to_name=None if observer is None else observer.naming,
            )
            files.append(file)
            if observer is not None:
                await observer.saved(file)
        return files

    async def aclose(self) -> None:
        """Closes what was opened."""
        if self._downloader is not None:
            await self._downloader.aclose()
