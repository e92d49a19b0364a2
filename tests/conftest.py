"""Watches over every test: whatever it leaves behind, no API key is in it. See `tests.canary`."""

import logging
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import canary

# `make test-s3` has an environment of its own, which is too heavy for all others.
collect_ignore = [] if find_spec("moto") else ["test_storage_s3.py"]

WATCH = pytest.StashKey[canary.Watch]()


def pytest_configure(config: pytest.Config) -> None:
    """Listens to all loggers, at every level, and to what tests read and expect."""
    # How long an example takes says something about the machine only.
    patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("untimed", patient)
    settings.load_profile("untimed")
    config.stash[WATCH] = watch = canary.Watch()
    patch = pytest.MonkeyPatch()
    canary.eavesdrop(watch, patch)
    config.add_cleanup(patch.undo)
    root = logging.getLogger()
    root.addHandler(watch)
    config.add_cleanup(lambda: root.removeHandler(watch))
    root.setLevel(logging.DEBUG)


def look_at_files_of(item: pytest.Item) -> None:
    """Those that only this test can have written."""
    place = getattr(item, "funcargs", {}).get("tmp_path")
    if isinstance(place, Path):
        item.config.stash[WATCH].files(place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Before the last test's teardown looks at all the rest, which no marker excuses."""
    look_at_files_of(item)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that leaves a key behind fails when all its fixtures are down."""
    report = yield
    if call.when != "teardown":
        return report
    watch = item.config.stash[WATCH]
    for name, content in report.sections:
        watch.text("output", name, content)
    look_at_files_of(item)
    if findings := watch.findings(canary.allowed_in(item)):
        told = f"{report.longrepr}\n" if report.failed else ""
        report.outcome = "failed"
        report.longrepr = told + canary.report_of(findings)
    return report


@pytest.fixture(scope="session", autouse=True)
def _no_key_in_any_file(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[None]:
    """Files that no test calls its own: it is set up first, so it looks when all else is down."""
    yield
    rest = canary.Watch(seen=request.config.stash[WATCH].seen)
    rest.files(tmp_path_factory.getbasetemp())
    if findings := rest.findings():
        pytest.fail(canary.report_of(findings), pytrace=False)
