"""Running tests on mutants, each in a fork."""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import importlib
import importlib.abc
import importlib.machinery
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType, ModuleType

import attrs
import coverage
import hypothesis
import pytest

from tools.mutation.forks import Tell, Told, in_fork, told_by_fork
from tools.mutation.mutants import Mutant

PRELOADED = ("aiohttp.web", "aiolimiter", "cattrs", "fastapi", "orjson", "uvicorn")
ARGUMENTS = (
    *("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "-o", "timeout=0"),
    "--assert=plain",  # pytest's own import hook would come before ours
)
CPU_SECONDS, WAIT_SECONDS = 5.0, 20.0
"""What one test may take beside ten times as long as without a mutant."""


@attrs.frozen
class Outcome:
    """`killed`, `survived`, `timeout`, `unreached` (by any test), or `early`: see `_patch`."""

    kind: str
    test: str | None = None


@attrs.frozen
class Table:
    """What each test takes, and which tests reach each line: `tests[file][line]`."""

    seconds: dict[str, float]
    tests: dict[str, dict[str, list[str]]]

    def runs_at_import(self, file: str, mutant: Mutant) -> bool:
        """Whether the function of a mutant has done its work when the tests begin."""
        lines = self.tests.get(file, {})
        return any("" in lines.get(str(line), ()) for line in mutant.lines)

    def reaching(self, file: str, mutant: Mutant, *, enough: float) -> list[str]:
        """The tests that reach it, the fastest first."""
        lines = self.tests.get(file, {})
        found = {test for line in mutant.lines for test in lines.get(str(line), ())}
        return self._fastest([found & self.seconds.keys()], enough)

    def all(self, file: str, *, enough: float) -> list[str]:
        """All tests, those first that reach the module."""
        own = {test for tests in self.tests.get(file, {}).values() for test in tests}
        return self._fastest([own & self.seconds.keys(), self.seconds.keys() - own], enough)

    def _fastest(self, sets: Sequence[set[str]], enough: float) -> list[str]:
        chosen: list[str] = []
        for tests in sets:
            for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
                enough -= self.seconds[test]
                if enough > 0 or not chosen:
                    chosen.append(test)
        return chosen


def prepare() -> None:
    """Imports what tests need, but nothing of ours."""
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # The same examples every time, or a mutant would be killed by luck.
    hypothesis.settings.register_profile("mutate", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutate")
    gc.freeze()


def measure(tests: list[str], files: list[str]) -> Table:
    """Runs all tests once, and watches which lines they reach."""
    told = in_fork(lambda: _measured(tests, files))
    if told is None or not told["seconds"]:
        raise SystemExit("no test passes without a mutant")
    for test in told["failed"]:  # as some do that are about time, on a machine with much else to do
        print(f"left out, as it fails without a mutant: {test}")
    return Table(told["seconds"], told["tests"])


def _measured(tests: list[str], files: list[str]) -> Told:
    watch = coverage.Coverage(data_file=None, include=files, config_file=False)
    watch.start()
    loop = _Loop(watch=watch)
    _pytest(tests, loop)
    watch.stop()
    data = watch.get_data()
    found = {
        file: {str(line): tests for line, tests in data.contexts_by_lineno(file).items()}
        for file in data.measured_files()
    }
    return {"seconds": loop.seconds, "tests": found, "failed": sorted(loop.failures)}


class Trials:
    """Mutants of modules, whose file and tree `trees` has by name, and the tests for them."""

    def __init__(
        self,
        tests: list[str],
        trees: dict[str, tuple[str, ast.Module]],
        table: Table,
        *,
        enough: float,
    ) -> None:
        self._tests = tests
        self._trees = trees
        self._table = table
        self._enough = enough

    def is_early(self, mutant: Mutant) -> bool:
        """Whether it takes effect when its module is imported."""
        file, _ = self._trees[mutant.module]
        return mutant.function is None or self._table.runs_at_import(file, mutant)

    def in_session(self, mutants: list[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
        """Collects the tests once and tries mutants of functions on them."""
        left = {mutant.id: mutant for mutant in mutants if self._order(mutant)}
        yield from ((m, Outcome("unreached")) for m in mutants if m.id not in left)
        if left:
            for told in told_by_fork(functools.partial(self._session, list(left.values()))):
                yield left[told["id"]], Outcome(told["kind"], told["test"])

    def _order(self, mutant: Mutant) -> list[str]:
        return self._table.reaching(self._trees[mutant.module][0], mutant, enough=self._enough)

    def _session(self, mutants: list[Mutant], tell: Tell) -> None:
        def try_all(loop: _Loop, session: pytest.Session) -> None:
            for mutant in mutants:
                found = in_fork(functools.partial(self._try, mutant, loop, session))
                tell({"id": mutant.id, **(found or {"kind": "timeout", "test": None})})

        _pytest(self._tests, _Loop(seconds=self._table.seconds, instead=try_all))

    def _try(self, mutant: Mutant, loop: _Loop, session: pytest.Session) -> Told:
        file, tree = self._trees[mutant.module]
        if not _patch(file, tree, mutant):
            return {"kind": "early", "test": None}
        loop.run(session, self._order(mutant))
        return {"kind": "survived" if loop.failed is None else "killed", "test": loop.failed}

    def at_import(self, mutant: Mutant) -> Outcome:
        """Imports everything anew, with the mutant in place of its module."""
        told = in_fork(functools.partial(self._try_at_import, mutant))
        return Outcome("timeout") if told is None else Outcome(told["kind"], told["test"])

    def _try_at_import(self, mutant: Mutant) -> Told:
        file, tree = self._trees[mutant.module]
        mutant.apply()
        name = ".".join(["apixo_async", *mutant.module.split("/")])
        sys.meta_path.insert(0, _Finder(name, compile(tree, file, "exec")))
        order = self._table.all(file, enough=self._enough)
        loop = _Loop(seconds=self._table.seconds, order=order)
        _pytest(self._tests, loop)
        if not loop.has_run:
            return {"kind": "killed", "test": "collection"}
        return {"kind": "survived" if loop.failed is None else "killed", "test": loop.failed}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module where it is, and gives it other code."""

    def __init__(self, name: str, code: CodeType) -> None:
        self._name = name
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.get_code = lambda _: self._code  # type: ignore[attr-defined]  # all of files have it
        return spec


def _patch(file: str, tree: ast.Module, mutant: Mutant) -> bool:
    """Gives all functions of a module the code they have with a mutant.

    False if that changes none of them, as where the mutant is in what was run by importing.
    """
    mutant.apply()
    codes: dict[tuple[str, int], CodeType | None] = {}
    for code in _codes_in(compile(tree, file, "exec")):
        name = code.co_qualname, code.co_firstlineno
        codes[name] = None if name in codes else code  # two lambdas of one line
    is_changed = False
    gc.unfreeze()
    for found in gc.get_objects():
        if isinstance(found, functools._lru_cache_wrapper):  # noqa: SLF001  # it has no other name
            if str(getattr(found, "__module__", "")).startswith("apixo_async"):
                found.cache_clear()
        elif isinstance(found, FunctionType) and found.__code__.co_filename == file:
            now = codes.get((found.__code__.co_qualname, found.__code__.co_firstlineno))
            if now is None or now == found.__code__:
                continue
            if now.co_freevars != found.__code__.co_freevars:  # it may not have these
                return False
            found.__code__ = now
            is_changed = True
    return is_changed


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes_in(inner)


class _Loop:
    """Runs tests in a given order until one fails; without an order all of them, as collected."""

    def __init__(
        self,
        *,
        seconds: dict[str, float] | None = None,
        order: list[str] | None = None,
        watch: coverage.Coverage | None = None,
        instead: Callable[[_Loop, pytest.Session], None] | None = None,
    ) -> None:
        self.failures = set[str]()
        self.has_run = False
        self.seconds: dict[str, float] = {}
        self._known = seconds
        self._order = order
        self._watch = watch
        self._instead = instead

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self._instead is not None:
            self._instead(self, session)
        elif not session.testsfailed:  # as when a test module cannot be imported
            self.has_run = True
            self.run(session, self._order)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failures.add(report.nodeid)

    @property
    def failed(self) -> str | None:
        return next(iter(self.failures), None)

    def run(self, session: pytest.Session, order: list[str] | None) -> None:
        items = {item.nodeid: item for item in session.items}
        names = list(items) if order is None else [name for name in order if name in items]
        for name, following in zip(names, [*names[1:], None], strict=True):
            began = time.perf_counter()
            self._prepare(name)
            item, then = items[name], None if following is None else items[following]
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=then)
            if name not in self.failures:
                self.seconds[name] = round(time.perf_counter() - began, 4)
            elif self._watch is None:
                return

    def _prepare(self, name: str) -> None:
        if self._watch is not None:
            self._watch.switch_context(name)
        if self._known is not None:
            usual = 10 * self._known.get(name, 0.0)
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS + usual)
            signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS + usual)


def _pytest(tests: list[str], loop: _Loop) -> None:
    pytest.main([*ARGUMENTS, *tests], plugins=[loop])
