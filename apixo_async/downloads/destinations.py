"""Where results go: what a download needs of a place, be it a directory or a storage.

What all of them promise: under its final name a result is whole, its length was checked, and what
had that name before is not replaced unasked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ClassVar, Final, Protocol, Self, TypeAlias

from apixo_async._places import Place
from apixo_async.downloads.files import SavedFile

HEAD: Final = 64
"""First bytes of a file that are kept to tell its kind."""

AboutToName: TypeAlias = Callable[[SavedFile], Awaitable[None]]
"""Awaited before a complete file gets the name that it is told with."""


class PlaceError(Exception):
    """A place refused; the text is its reason, `word` the one of `DownloadError.reason`."""

    word: ClassVar[str] = "disk"


class NameTakenError(Exception):
    """Somebody was faster with a name that the content is bound to: it has to be sent anew."""


class Part(Protocol):
    """A result on its way: nobody sees it before it is whole. Leaving it removes what is not.

    Raises `PlaceError` for whatever the place refuses.
    """

    size: int
    head: bytes
    """The first bytes, which may have come in several chunks."""

    async def __aenter__(self) -> Self: ...

    async def write(self, chunk: bytes) -> None:
        """Adds to the end."""

    async def clear(self) -> None:
        """Removes what was written: the file begins anew."""

    async def keep(self, suffix: str, about_to_name: AboutToName | None = None) -> SavedFile:
        """Makes the content durable and gives it its name, after `about_to_name` was told it.

        Cancelled in the very moment it gets the name, the file stays: it is complete. Raises
        `NameTakenError` where the content would have to be sent again for another name.
        """
        ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Destination(Protocol):
    """Where results go."""

    @property
    def place(self) -> Place:
        """The directory or URL."""
        ...

    async def check(self) -> None:
        """Raises `InvalidSettingError` if plainly nothing could be saved here.

        It begins a file and throws it away. All that it leaves is a directory that was missing.
        """

    def part(self, stem: str, *, overwrite: bool) -> Part:
        """A new result, to be named `<stem>.<suffix>`.

        If that is taken and not to `overwrite`, it will be `<stem>~2.<suffix>` and so on.
        """
        ...

    async def has(self, file: SavedFile) -> bool:
        """Whether a file that is recorded is where it was saved, with its size."""
        ...

    async def find(self, told: SavedFile, stem: str) -> SavedFile | None:
        """The file of this size and hash among those that were saved as `stem`.

        It was about to get the name it is told with when its process ended. What that left besides
        is removed.
        """
        ...

    def close(self) -> None:
        """Gives back what was opened."""
