"""What a journal says about its batch, without taking possession of it."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

from apixo_async.batch.journal.opening import (
    check_format,
    check_header,
    connect,
    read_meta,
    translating,
)


def read_options(path: Path) -> tuple[dict[str, Any], int]:
    """What the batch was started with, and how many jobs are open or have files missing.

    Raises `JournalError` for what is no journal.
    """
    path = Path(os.path.realpath(path))
    check_header(path)
    with translating(path), closing(connect(path, mode="ro")) as database:
        check_format(database, path)
        options: dict[str, Any] = json.loads(read_meta(database, "options") or "{}")
        (number,) = database.execute(
            "SELECT count(*) FROM jobs"
            " WHERE state IN ('queued', 'sending', 'accepted', 'uncertain')"
        ).fetchone()
        if options.get("save_to") is not None:
            (unsaved,) = database.execute(
                "SELECT count(*) FROM jobs WHERE state = 'succeeded' AND saved = 0"
            ).fetchone()
            number += unsaved
        return options, int(number)
