"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

import apixo_async.emulator
from apixo_async.emulator import EmulatorSettings
from apixo_async.testing import EmulatorThread, emulated

pytest_plugins = ["pytester"]

ROOT = Path(apixo_async.emulator.__file__).parents[2]
PLUGIN = ROOT / "apixo_async" / "testing.py"
DOCS = Path(__file__).parents[2] / "docs"

GUIDE = [
    re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)[0]
    for page in ("emulator.md", "how-to/testing.md")
]
"""The code in the guides: a program and a test."""

USER_TESTS = """
import os
import re
import urllib.request

import pytest


def ask(name, key):
    request = urllib.request.Request(
        os.environ["APIXO_BASE_URL"] + name, headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request) as response:
        return response.read()


def test_sync(apixo_emulator):
    assert os.environ["APIXO_API_KEY"] == apixo_emulator.api_key
    assert os.environ["APIXO_BASE_URL"] == apixo_emulator.base_url
    assert b"1000000.0" in ask("/api/v1/apikeys/current-balance", apixo_emulator.api_key)
    assert apixo_emulator.ledger.requests_total == 1


@pytest.mark.apixo_emulator(balance=5, api_key="k")
class TestMarked:
    @pytest.mark.apixo_emulator(balance=7)
    def test_nearest_wins(self, apixo_emulator):
        assert apixo_emulator.settings.balance == 7
        assert b"7" in ask("/api/v1/apikeys/current-balance", "k")

    async def test_async(self, apixo_emulator):
        aiohttp = pytest.importorskip("aiohttp")
        async with aiohttp.ClientSession(apixo_emulator.base_url) as session:
            async with session.get("/emulator/ledger") as response:
                assert (await response.json())["requests_total"] == 0


def test_fresh(apixo_emulator):
    assert apixo_emulator.ledger.requests_total == 0


@pytest.mark.apixo_emulator(speed=0)
def test_wrong(apixo_emulator):
    pass


def test_environment_is_restored():
    assert "APIXO_BASE_URL" not in os.environ
"""


def test_the_fixture_serves_users(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sync and async tests, markers, wrong settings, the environment, and the guide's example."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.delenv("APIXO_BASE_URL", raising=False)
    _, guide = GUIDE
    pytester.makepyfile(test_users=USER_TESTS, test_guide=guide)
    result = pytester.runpytest_subprocess(
        *("-p", "no:apixo", "-p", "apixo_async.testing", "-p", "no:cacheprovider"),
        *("-W", "error", "--strict-markers", "-o", "asyncio_mode=auto"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
    )

    result.assert_outcomes(passed=6, errors=1)
    result.stdout.fnmatch_lines(["*ValueError: speed must be a number above 0, not 0"])


def test_the_program_in_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Copied as it stands, it prints the balance and the number of requests."""
    program, _ = GUIDE
    exec(compile(program, "emulator.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - ours

    assert capsys.readouterr().out.splitlines() == [
        "{'code': 200, 'message': 'success', 'data': 1000000.0}",
        "1",
    ]


def test_loading_the_plugin_is_cheap() -> None:
    """A pytest run that never asks for an emulator does not pay for aiohttp."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('plugin', {str(PLUGIN)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules['plugin'] = module\n"
        "spec.loader.exec_module(module)\n"
        "print('aiohttp' in sys.modules, 'attrs' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.split() == ["False", "False"]


async def test_a_context_manager_for_any_coroutine() -> None:
    """Settings are given by name, and the emulator is closed at the end."""
    async with emulated(seed=7, balance=3) as emulator:
        assert (emulator.settings.seed, emulator.settings.balance) == (7, 3)


async def test_a_wrong_name_is_refused_at_once() -> None:
    """A mistyped setting is a TypeError, a wrong value a ValueError."""
    with pytest.raises(TypeError, match="sped"):
        await emulated(sped=60).__aenter__()
    with pytest.raises(ValueError, match="speed"):
        await emulated(speed=-1).__aenter__()


def test_a_thread_of_its_own() -> None:
    """It answers while this thread blocks, obeys from outside, and is gone at the end."""
    with EmulatorThread(EmulatorSettings(faults={"submit_429": 1})) as emulator:
        with urllib.request.urlopen(emulator.base_url + "/emulator/bound") as response:  # noqa: S310 - our own
            assert response.status == 200
        emulator.set_faults({"status_503": 1})
        before = emulator.ledger
        emulator.reset()

        assert emulator.ledger is not before
        assert emulator.bound()["jobs"] == len(emulator.tasks()) == 0
        with pytest.raises(ValueError, match="names from FAULTS"):
            emulator.set_faults({"nothing": 1})

    assert "apixo-emulator" not in {thread.name for thread in threading.enumerate()}


def test_a_thread_that_cannot_start_says_why() -> None:
    """The reason is raised where the emulator was asked for."""
    with EmulatorThread(EmulatorSettings()) as first:
        port = int(first.base_url.rsplit(":", 1)[1])
        with (
            pytest.raises(OSError, match="address already in use"),
            EmulatorThread(EmulatorSettings(port=port)),
        ):
            pass


def test_a_thread_that_was_not_started_has_no_address() -> None:
    """The mistake is named, not an attribute that is None."""
    with pytest.raises(RuntimeError, match="with 'with'"):
        _ = EmulatorThread(EmulatorSettings()).base_url
