"""From a seed to a verdict: one process after the other, until a calm one has done all there is."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import sys
import tempfile
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs
import time_machine

from apixo_async import (
    ApixoClient,
    BatchReport,
    BatchRunner,
    Job,
    LearnedSchedule,
    PollSchedule,
    TextToVideo,
    WebhookReceiver,
)
from apixo_async.batch import events
from apixo_async.batch.journal import Entry, JobState, Journal
from apixo_async.errors import JournalError
from tests.simulation.disks import inline_journals
from tests.simulation.judging import Judge
from tests.simulation.loops import EPOCH, CrashError, SimulatedLoop, SpinError
from tests.simulation.network import Network
from tests.simulation.plans import RETRY_CODE, Life, Plan, drawn
from tests.simulation.planted import sabotage
from tests.simulation.reports import Process
from tests.simulation.server import Server
from tests.simulation.watching import Watched
from tests.simulation.world import BEGIN, World

_LOGGER: Final = logging.getLogger("apixo_async")
CALM_LIVES: Final = 8
"""Processes without any fault, in which everything has to come to its end."""
LIFETIME: Final = 40_000.0
"""Seconds after which a process that has not ended by itself is stuck."""
BUGS: Final = ("is a bug", "broke:", "on_event failed", "could not be recorded: Traceback")


@attrs.frozen(kw_only=True)
class Verdict:
    """What one seed came to."""

    seed: int
    broken: tuple[str, ...]
    trace: str
    lives: int
    billed: int
    uncertain: int
    jobs: int
    lines: tuple[str, ...] = ()


class _Log(logging.Handler):
    """Watches for what only a bug would say."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RuntimeError) and "no running event loop" in str(error):
            return  # what a dead process left behind is cleared away
        if any(bug in text for bug in BUGS):
            self._watched.breach("a bug was logged", text, repr(error))


class Simulation:
    """One seed."""

    def __init__(self, plan: Plan, directory: Path, *, keeps_lines: bool) -> None:
        self.plan = plan
        self.world = World(plan, directory)
        self.world.lines = [] if keeps_lines else None
        self.server = Server(self.world)
        self.watched = Watched(self.world)
        self.known: dict[str, dict[str, float]] = {}
        self.report: BatchReport | None = None
        self._network = Network(self.world, self.server, self.watched)

    def run(self) -> Verdict:
        """Lives through the plan, and then on without faults until nothing is left to do."""
        with self._alone() as calendar:
            for number, life in enumerate(self.plan.lives):
                self._live(life, calendar, resumes=life.resumes and number > 0)
                self.world.pass_time(life.downtime)
            self.world.is_calm = True
            for _ in range(CALM_LIVES):
                self._live(None, calendar, resumes=False)
                if self.report is not None and self.report.stopped is None and not self._running():
                    break
                self.world.pass_time(600)
            entries = self._entries(calendar)
            outcomes = () if self.report is None else self.report.outcomes
            judge = Judge(self.world, self.server, self.watched, self.known)
            broken = judge.judge(entries, outcomes)
        return Verdict(
            seed=self.plan.seed,
            broken=tuple(dict.fromkeys(broken)),
            trace=self.world.trace,
            lives=self.world.life_number,
            billed=len(self.server.tasks),
            uncertain=sum(entry.state is JobState.UNCERTAIN for entry in entries),
            jobs=self.plan.jobs,
            lines=tuple(self.world.lines or ()),
        )

    def _running(self) -> bool:
        """Whether tasks go on that will be found; not those that are denied for good."""
        waited = () if self.report is None else self.report.outcomes
        last = [outcome.task for outcome in waited if outcome.status == "timed_out"]
        tasks = [self.server.tasks.get(task.id if task is not None else "") for task in last]
        return not all(task is not None and task.is_denied_for_good for task in tasks)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[time_machine.Traveller]:
        """The calendar is the world's, and nobody hears what dead processes have to say."""
        logger, log = _LOGGER, _Log(self.watched)
        before, logger.propagate = logger.propagate, False
        logger.addHandler(log)
        try:
            with (
                time_machine.travel(EPOCH + BEGIN, tick=False) as calendar,
                inline_journals(self.world),
            ):
                yield calendar
        finally:
            logger.removeHandler(log)
            logger.propagate = before

    # One process

    def _live(self, life: Life | None, calendar: time_machine.Traveller, *, resumes: bool) -> None:
        world = self.world
        loop = SimulatedLoop(world.now, calendar)
        loop.call_later(LIFETIME, self._stuck)
        ends: dict[str, Callable[[], object]] = {}
        world.begin(loop, life, ends)
        self.report = None
        try:
            loop.run_until_complete(self._process(ends, resumes=resumes))
        except CrashError:
            pass
        except SpinError:
            self.watched.breach("SPINS", "busy with nothing")
        except RuntimeError as error:
            self.watched.breach("STUCK", error)
        self._bury(loop)

    def _stuck(self) -> None:
        assert self.world.loop is not None
        self.watched.breach("STUCK", f"not done after {LIFETIME:.0f} s")
        self.world.loop.is_dead = True

    def _bury(self, loop: SimulatedLoop) -> None:
        was_alive = not loop.is_dead
        self.world.end()
        loop.is_dead = True
        left = asyncio.all_tasks(loop)
        if was_alive:
            for complaint in loop.complaints:
                self.watched.breach("the loop complains", complaint)
            for task in left:
                self.watched.breach("a task was left behind", task)
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.set_exception_handler(lambda *_: None)
        if not loop.is_running():
            loop.close()

    async def _process(self, ends: dict[str, Callable[[], object]], *, resumes: bool) -> None:
        world, plan = self.world, self.plan
        self._heard = Process(world, self.server, self.watched)
        receiver = None
        if plan.calls_back:
            receiver = WebhookReceiver("https://here.test/apixo", secret="a secret of simulations")
        client = ApixoClient(
            "key-of-the-simulation",
            base_url="http://api.test",
            transport=self._network,
            limits=plan.limits,
            webhook=receiver,
        )
        client.engine._rng.seed(f"client {plan.seed} {world.life_number}")
        async with client:
            runner = BatchRunner(
                client,
                journal=world.disk / "run.db",
                uncertain=plan.uncertain,
                retry_codes={RETRY_CODE} if plan.retries else (),
                retries=max(plan.retries, 1),
                schedule=LearnedSchedule() if plan.learns else PollSchedule(),
                on_event=self._told,
            )
            world.receiver = receiver
            resumes = resumes and (world.disk / "run.db").exists()
            running = asyncio.create_task(runner.resume() if resumes else runner.run(self._jobs()))
            ends |= {"cancel": running.cancel, "stop": runner.stop}
            try:
                self.report = await running
                self._heard.judge(self.report)
            except asyncio.CancelledError:
                self.report = runner.report
                self._heard.judge(runner.report)
            except JournalError as error:
                if not world.refuses:
                    self.watched.breach("the journal failed", error)
        world.receiver = None

    def _jobs(self) -> Iterable[Job] | AsyncIterable[Job]:
        jobs = [Job(TextToVideo(f"job {n}"), key=f"job {n}") for n in range(self.plan.jobs)]
        if self.plan.source == "list":
            return jobs
        if self.plan.source == "iterator":
            return iter(jobs)

        async def one_by_one() -> AsyncIterator[Job]:
            for job in jobs:
                await asyncio.sleep(random.Random(job.key).uniform(0, 3))
                yield job

        return one_by_one()

    def _told(self, event: events.Event) -> None:
        """The client tells of an id: from now on it must be known for ever."""
        if self.world.is_dead:
            return
        self._heard.told(event)
        if isinstance(event, (events.Accepted, events.Identified)):
            self.world.note("told", event.key, event.task_id)
            self.known.setdefault(event.key, {})[event.task_id] = self.world.time

    def _entries(self, calendar: time_machine.Traveller) -> list[Entry]:
        loop = SimulatedLoop(self.world.now, calendar)
        began = self.world.last_began
        self.world.begin(loop, None, {})
        self.world.last_began = began

        async def read() -> list[Entry]:
            journal = await Journal.open(self.world.disk / "run.db")
            try:
                return [entry async for entry in journal.entries(*JobState)]
            finally:
                await journal.aclose()

        try:
            return loop.run_until_complete(read())
        except JournalError as error:
            self.watched.breach("the journal cannot be read", error)
            return []
        finally:
            self._bury(loop)


def simulate(seed: int, *, bug: str | None = None, keeps_lines: bool = False) -> Verdict:
    """Runs one seed, with one of the planted bugs in the library if there is to be one."""
    with (
        sabotage(bug),
        _cleared_away(),
        tempfile.TemporaryDirectory(prefix="apixo-", dir=_memory()) as directory,
    ):
        return Simulation(drawn(seed), Path(directory), keeps_lines=keeps_lines).run()


@contextlib.contextmanager
def _cleared_away() -> Iterator[None]:
    """What dead processes left behind goes with the block, and without a word."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    propagate, _LOGGER.propagate = _LOGGER.propagate, False
    nobody = logging.NullHandler()  # or logging itself would print what no handler takes
    _LOGGER.addHandler(nobody)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        _LOGGER.removeHandler(nobody)
        _LOGGER.propagate, sys.unraisablehook = propagate, hook


def _memory() -> str | None:
    """Where a disk costs nothing, if there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108  # a directory of our own is made there
    return str(memory) if memory.is_dir() else None
