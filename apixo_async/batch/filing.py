"""Which results of a job are on disk already, by its journal and by the disk itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from apixo_async.batch.journal import Journal
from apixo_async.batch.story import Story
from apixo_async.downloads import SavedFile, clear_leftovers, file_names, find_saved
from apixo_async.tasks import Task


async def missing_results(
    journal: Journal | None, story: Story, task: Task, directory: Path
) -> Sequence[int]:
    """The indices of results that have to be downloaded; `story` is told of the others.

    A file that had got its name when its process was killed, before that was recorded, is known by
    its size and hash, which were recorded before.
    """
    stems = file_names(story.key, len(task.urls))
    if journal is None:
        return list(stems)
    there = {
        _index_of(file, stems): file for file in journal.files(story.number) if _is_there(file)
    }
    for told in journal.files(story.number, named=False):
        index = _index_of(told, stems)
        if index is None or index in there:
            continue
        found = await asyncio.to_thread(_taken_over, directory, stems[index], told)
        if found is not None:
            there[index] = found
            await story.adopted(found)
    story.files += [file for index, file in there.items() if index is not None]
    return [index for index in stems if index not in there]


def _taken_over(directory: Path, stem: str, told: SavedFile) -> SavedFile | None:
    found = find_saved(directory, stem, size=told.size, sha256=told.sha256)
    if found is not None:
        # The temporary name may be there, too: it goes right after the other one came.
        clear_leftovers(directory, stem)
    return found


def are_there(files: Sequence[SavedFile]) -> bool:
    """Whether all these files are on disk, by name and size."""
    return all(map(_is_there, files))


def _is_there(file: SavedFile) -> bool:
    try:
        return file.path.stat().st_size == file.size
    except OSError:
        return False


def _index_of(file: SavedFile, stems: Mapping[int, str]) -> int | None:
    """Which result a file is, by its name; `None` for a name that is none of this job's."""
    name = re.sub(r"(~[0-9]+)?\.[a-z0-9]+$", "", file.path.name)
    return next((index for index, stem in stems.items() if stem == name), None)
