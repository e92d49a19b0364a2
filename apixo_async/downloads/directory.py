"""Results in a directory."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import attrs

from apixo_async.downloads.claims import clear_leftovers
from apixo_async.downloads.files import SavedFile, find_saved
from apixo_async.downloads.parts import PartFile
from apixo_async.downloads.threads import in_thread
from apixo_async.errors import InvalidSettingError


@attrs.frozen
class Directory:
    """A directory of this machine, made when it is checked or when the first result comes."""

    place: Path

    async def check(self) -> None:
        """Makes the directory and begins a file in it; raises `InvalidSettingError`."""
        await in_thread(self.check_now)

    def check_now(self, *, keep: bool = True) -> None:
        """The same, blocking. Without `keep`, directories that were missing are removed again."""
        place = self.place.absolute()
        missing = [path for path in (place, *place.parents) if not os.path.lexists(path)]
        try:
            PartFile(place, "apixo-check", overwrite=False).probe()
        except (OSError, ValueError) as error:  # the second for a name with a null byte
            reason = _reason(place, error)
        else:
            return
        finally:
            if not keep:
                for path in missing:
                    with suppress(OSError, ValueError):
                        path.rmdir()
        raise InvalidSettingError(
            f"cannot save to {self.place}: {reason}; name a directory that files can be written to"
        )

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


def _reason(place: Path, error: Exception) -> str:
    """What is wrong with a directory, by what is in its way or what the system says."""
    lowest = next((path for path in (place, *place.parents) if os.path.lexists(path)), place)
    if os.path.lexists(lowest) and not os.path.isdir(lowest):  # noqa: PTH112  # this raises nothing
        return f"{lowest} is no directory"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def is_on_disk(file: SavedFile) -> bool:
    """Whether a file is there, by name and size; what is at a URL is believed to be."""
    if isinstance(file.place, str):
        return True
    try:
        return file.place.stat().st_size == file.size
    except OSError:
        return False
