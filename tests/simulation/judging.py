"""The judge: what must be true in the end, by the server's books and the client's record."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from apixo_async import OutcomeStatus
from apixo_async._wire import Reply
from apixo_async.batch import Outcome
from apixo_async.batch.journal import (
    CALLED_BACK,
    EARLIER,
    ENDED,
    OTHER_TASKS,
    Entry,
    JobState,
    past_tasks,
)
from tests.simulation.server import BilledTask, Server, named
from tests.simulation.watching import Post, Watched
from tests.simulation.world import World

ASKED_WITHIN: Final = 130.0
"""Seconds after which a damaged answer must be on record: the API is asked about its id before."""
HELD: Final = 600.0
"""Seconds for which a submit without a known answer keeps its slot at the least."""


class Judge:
    """Compares; `known` are the ids that the client has told of, by job."""

    def __init__(
        self,
        world: World,
        server: Server,
        watched: Watched,
        known: Mapping[str, Mapping[str, float]],
    ) -> None:
        self._plan = world.plan
        self._ended = world.ended
        self._had_time = world.had_time
        self._last_began = world.last_began
        self._server = server
        self._watched = watched
        self._known = known

    def judge(self, entries: Iterable[Entry], outcomes: Iterable[Outcome]) -> list[str]:
        """Every rule that was broken."""
        found = {entry.key: entry for entry in entries}
        broken = [*self._watched.found, *self._peaks()]
        for entry in found.values():
            broken += (f"{entry.key}: {what}" for what in self._job(entry))
        for key in {task.key for task in self._server.tasks.values()} - found.keys():
            broken.append(f"{key}: billed, and not in the journal")
        broken += self._outcomes(found, outcomes)
        return broken

    def _job(self, entry: Entry) -> Iterator[str]:
        tasks = self._server.of(entry.key)
        yield from self._doubled(entry, tasks)
        yield from self._lost(entry, tasks)
        yield from self._stuck(entry)
        yield from self._wrong(entry)
        if entry.state is JobState.UNCERTAIN:
            yield from self._doubted_for_nothing(entry)

    # Paid twice

    def _doubled(self, entry: Entry, tasks: list[BilledTask]) -> Iterator[str]:
        again = 0
        for before, after in itertools.pairwise(tasks):
            if self._plan.uncertain == "resubmit" and not self._was_known(before, after.sent_at):
                continue
            is_failed = before.fail_code is not None and before.ends_at <= after.sent_at
            again += 1
            if not is_failed or again > self._plan.retries:
                yield f"DOUBLED: {after.id} although there was {before.id}"

    def _was_known(self, task: BilledTask, when: float) -> bool:
        """Whether the client had told of the task, or answered a callback for it, by then.

        Or it had been given its id in a damaged answer, and nobody had denied that.
        """
        told = self._known.get(task.key, {}).get(task.id)
        named = next(filter(None, map(partial(self._named_at, task), self._posts(task.key))), None)
        if self._watched.denied.get(task.id, when) < when:
            return told is not None and told < when
        return any(at is not None and at < when for at in (told, task.told_at, named))

    def _posts(self, key: str) -> list[Post]:
        return self._watched.posts.get(key, [])

    def _named_at(self, task: BilledTask, post: Post) -> float | None:
        """When this submit's answer named its task, if the client had time to write it down."""
        if post.answered_at is None or post.sent_at != task.sent_at or post.candidate != task.id:
            return None
        had_time = self._had_time(post.life, post.answered_at, within=ASKED_WITHIN)
        return post.answered_at if had_time else None

    # Lost

    def _lost(self, entry: Entry, tasks: list[BilledTask]) -> Iterator[str]:
        on_record = _on_record(entry)
        for task_id in self._known.get(entry.key, {}).keys() - on_record:
            yield f"LOST: {task_id} was told of and is not on record"
        for task in tasks:
            if task.id in on_record:
                continue
            if entry.state is not JobState.UNCERTAIN and not self._was_given_up(task):
                yield f"LOST: {task.id} runs, and the job is {entry.state}"
            if task.told_at is not None:
                yield f"LOST: a callback told of {task.id}"
        for task in tasks:
            was_told = task.told_at is not None and task.told_at < self._last_began
            is_denied = task.is_denied_for_good or task.id in self._watched.denied
            if was_told and not is_denied and task.id not in _taken(entry):
                yield f"LOST: a callback told of {task.id}, and nobody looked for it"

    def _was_given_up(self, task: BilledTask) -> bool:
        """Whether the user had the job submitted more than once, and nothing told of this task.

        That is until the next submit, or for the last one, whose job an earlier task has ended.
        """
        if self._plan.uncertain != "resubmit" or len(self._posts(task.key)) == 1:
            return False
        later = [post.sent_at for post in self._posts(task.key) if post.sent_at > task.sent_at]
        return not self._was_known(task, later[0] if later else math.inf)

    def _doubted_for_nothing(self, entry: Entry) -> Iterator[str]:
        posts = self._watched.posts.get(entry.key, [])
        if posts:
            yield from self._careless(entry, posts[-1])
            yield from self._unasked(entry, posts[-1])
        if not posts:
            if entry.why().get("phase") != "crash":
                yield "UNCERTAIN although nothing was sent"
            return
        answer = posts[-1].answer
        is_plain = isinstance(answer, Reply) and answer.status == 429
        if is_plain and entry.why().get("phase") != "crash":
            yield "UNCERTAIN although the API refused"

    def _careless(self, entry: Entry, post: Post) -> Iterator[str]:
        """Whether the client threw away what it could have known."""
        _, in_order = self._ended[post.life]
        if post.answered_at is not None and isinstance(post.answer, Reply):
            had_time = self._had_time(post.life, post.answered_at)
            task = self._server.tasks.get(named(post.answer) or "")
            is_its_own = task is not None and task.sent_at == post.sent_at
            if had_time and task is not None and is_its_own and task.id not in _on_record(entry):
                yield f"LOST: {task.id} was answered, and is not on record"
        if post.answer is None and post.is_undisturbed and in_order:
            yield "LOST: nobody waited for the answer"

    def _unasked(self, entry: Entry, post: Post) -> Iterator[str]:
        """Whether nobody asked about the task that a damaged answer named."""
        task = self._server.tasks.get(post.candidate or "")
        if task is None or self._named_at(task, post) is None:
            return
        if task.id not in self._watched.denied.keys() | _on_record(entry):
            yield f"LOST: {task.id} was named, and is neither taken nor denied"

    # Stuck, or wrong

    def _stuck(self, entry: Entry) -> Iterator[str]:
        task = self._server.tasks.get(entry.task_id or "")
        if entry.state is JobState.ACCEPTED and task is not None and task.is_denied_for_good:
            return  # it may come back, or somebody decides: it is neither failed nor made again
        if entry.state not in ENDED | {JobState.UNCERTAIN}:
            yield f"STUCK: the job is {entry.state} in the end"

    def _wrong(self, entry: Entry) -> Iterator[str]:
        task = self._server.tasks.get(entry.task_id or "")
        if task is None:
            if entry.state in {JobState.SUCCEEDED, JobState.FAILED}:
                yield f"WRONG: {entry.state} by {entry.task_id}, which was never made"
            return
        if task.key != entry.key:
            yield f"WRONG: has {task.id}, which is that of {task.key}"
        snapshot = entry.snapshot()
        if entry.state is JobState.SUCCEEDED:
            urls = () if snapshot is None else snapshot.urls
            if task.fail_code is not None or urls != (task.result,):
                yield f"WRONG: succeeded with {urls} of {task.id} ({task.fail_code})"
        elif entry.state is JobState.FAILED and task.fail_code is None:
            yield f"WRONG: failed, but {task.id} has a result ({entry.why().get('reason')})"

    def _outcomes(self, entries: Mapping[str, Entry], outcomes: Iterable[Outcome]) -> Iterator[str]:
        keys = [outcome.job.key for outcome in outcomes]
        if sorted(map(str, keys)) != sorted(f"job {n}" for n in range(self._plan.jobs)):
            yield f"outcomes are of {keys}"
        for outcome in outcomes:
            entry = entries.get(outcome.job.key or "")
            is_good = outcome.status is OutcomeStatus.SUCCEEDED
            if entry is not None and is_good is not (entry.state is JobState.SUCCEEDED):
                yield f"{entry.key}: WRONG: outcome {outcome.status}, record {entry.state}"

    # Limits

    def _peaks(self) -> Iterator[str]:
        for when, running in self._server.peaks:
            counted = [task for task in running if not self._may_be_forgotten(task, when)]
            if len(counted) > self._plan.limits.concurrent_tasks:
                yield f"TASKS ABOVE THE CAP: {len(counted)} at {when:.3f}"

    def _may_be_forgotten(self, task: BilledTask, when: float) -> bool:
        """Whether its slot may be free: nobody can tell that it runs.

        Much time has passed, or another process knows the job by a later submit only.
        """
        told = self._known.get(task.key, {}).get(task.id)
        if told is not None and told <= when:
            return False
        is_forgotten = self._was_given_up(task) and self._ended[task.life][0] <= when
        return is_forgotten or when - task.sent_at >= HELD


def _taken(entry: Entry) -> set[str | None]:
    """Tasks that are known to be those of the job."""
    return {entry.task_id, *past_tasks(entry), *entry.why().get(OTHER_TASKS, ())}


def _on_record(entry: Entry) -> set[str | None]:
    """Those, and tasks that a callback has named for it and the API has not confirmed."""
    named = (entry.why().get(name, ()) for name in (CALLED_BACK, EARLIER))
    return _taken(entry).union(*named)
