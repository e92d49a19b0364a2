"""Results in a directory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import attrs

from apixo_async.downloads.claims import clear_leftovers
from apixo_async.downloads.files import SavedFile, find_saved
from apixo_async.downloads.parts import PartFile


@attrs.frozen
class Directory:
    """A directory of this machine, made when the first result comes."""

    place: Path

    async def check(self) -> None:
        """A disk is believed until it refuses."""

    def part(self, stem: str, *, overwrite: bool) -> PartFile:
        """A file beside its later name."""
        return PartFile(self.place, stem, overwrite=overwrite)

    async def has(self, file: SavedFile) -> bool:
        """Whether it is there by name and size."""
        return is_on_disk(file)

    async def find(self, told: SavedFile, stem: str) -> SavedFile | None:
        """Looks at all names of the stem: the file may have been moved here from elsewhere."""
        return await asyncio.to_thread(self._found, told, stem)

    def close(self) -> None:
        """Nothing was opened."""

    def _found(self, told: SavedFile, stem: str) -> SavedFile | None:
        found = find_saved(self.place, stem, size=told.size, sha256=told.sha256)
        if found is not None:
            # The temporary name may be there, too: it goes right after the other one came.
            clear_leftovers(self.place, stem)
        return found


def is_on_disk(file: SavedFile) -> bool:
    """Whether a file is there, by name and size; what is at a URL is believed to be."""
    if isinstance(file.place, str):
        return True
    try:
        return file.place.stat().st_size == file.size
    except OSError:
        return False
