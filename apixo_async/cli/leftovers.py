"""Jobs that a batch took over from its journal, and whether its input asked for them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from apixo_async.batch.continuing import AllJobs
from apixo_async.batch.source import as_job
from apixo_async.cli.progress import OpenJob


@attrs.frozen
class Leftovers:
    """Jobs with a task and without an outcome: those of this run's input, and of other inputs."""

    ours: tuple[OpenJob, ...]
    others: tuple[OpenJob, ...] = ()

    @classmethod
    def of(cls, left: Iterable[OpenJob], jobs: Iterable[object] | None) -> Leftovers:
        """`jobs` are the input; `None` stands for a run of the journal alone: all are its own.

        The input is read once more if an earlier process had submitted some of them.
        """
        left = tuple(left)
        unclaimed = {job.key for job in left if not job.is_new}
        if jobs is None or not unclaimed:
            return cls(left)
        for job in AllJobs(jobs, as_job):
            unclaimed.discard(job.key or "")
            if not unclaimed:
                break
        return cls(
            tuple(job for job in left if job.key not in unclaimed),
            tuple(job for job in left if job.key in unclaimed),
        )
