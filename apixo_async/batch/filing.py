"""Which results of a job are saved already, by its journal and by the place itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from apixo_async._places import file_name
from apixo_async.batch.record import Record
from apixo_async.batch.story import Story
from apixo_async.downloads import Destination, SavedFile, file_names, is_on_disk
from apixo_async.tasks import Task


async def missing_results(
    journal: Record | None, story: Story, task: Task, destination: Destination
) -> Sequence[int]:
    """The indices of results that have to be downloaded; `story` is told of the others.

    A file that had got its name when its process was killed, before that was recorded, is known by
    its size and hash, which were recorded before.
    """
    stems = file_names(story.key, len(task.urls))
    if journal is None:
        return list(stems)
    there = {
        _index_of(file, stems): file
        for file in journal.files(story.number)
        if await destination.has(file)
    }
    for told in journal.files(story.number, named=False):
        index = _index_of(told, stems)
        if index is None or index in there:
            continue
        found = await destination.find(told, stems[index])
        if found is not None:
            there[index] = found
            await story.adopted(found)
    story.files += [file for index, file in there.items() if index is not None]
    return [index for index in stems if index not in there]


def are_there(files: Sequence[SavedFile]) -> bool:
    """Whether all these files are on disk, by name and size.

    What was saved to a URL is believed to be there: to ask for each of a hundred thousand takes
    longer than to make the next video.
    """
    return all(map(is_on_disk, files))


def _index_of(file: SavedFile, stems: Mapping[int, str]) -> int | None:
    """Which result a file is, by its name; `None` for a name that is none of this job's."""
    name = re.sub(r"(~[0-9]+)?\.[a-z0-9]+$", "", file_name(file.place))
    return next((index for index, stem in stems.items() if stem == name), None)
