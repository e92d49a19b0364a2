"""The pytest plugin as users have it: installed, in a directory of theirs, beside others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import apixo_async

ROOT = Path(apixo_async.__file__).parents[1]

CODE = """
import asyncio
import os

import pytest

from apixo_async import ApixoClient, PollSchedule, TextToVideo

SOON = PollSchedule(first=0.05, interval=0.02)


async def make():
    async with ApixoClient(schedule=SOON) as client:
        return await client.generate(TextToVideo("a fox", mode="fast"))
"""
SYNC = """
@pytest.mark.apixo_emulator(speed=600, balance=5)
def test_sync(apixo_emulator):
    assert asyncio.run(make()).urls[0].startswith(apixo_emulator.base_url)
    assert apixo_emulator.settings.balance == 5
    assert apixo_emulator.ledger.billed_total == 1
"""
ASYNCIO = """
@pytest.mark.asyncio
@pytest.mark.apixo_emulator(speed=600)
async def test_asyncio(apixo_emulator):
    assert (await make()).has_succeeded
    assert apixo_emulator.ledger.billed_total == 1
"""
ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
@pytest.mark.apixo_emulator(speed=600)
async def test_anyio(apixo_emulator):
    assert (await make()).has_succeeded
    assert apixo_emulator.ledger.billed_total == 1
"""
IDLE = """
import sys


def test_nothing_heavy_is_loaded(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("apixo")
    heavy = {"aiohttp", "attrs", "cattrs", "apixo_async.emulator", "apixo_async.client"}
    assert not heavy & set(sys.modules)
"""

QUIET = ("-o", "asyncio_default_fixture_loop_scope=function")
"""What pytest-asyncio warns of if nobody says it."""


def run(directory: Path, code: str, *options: str) -> str:
    """A pytest run of that code, which finds the plugin by its entry point alone."""
    (directory / "test_mine.py").write_text(code, encoding="utf-8")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("APIXO_", "PYTEST_", "COV"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "--strict-markers", *QUIET, *options],
        cwd=directory,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.writes_key("files", reason="pytest may name the emulator's key in its cache")
def test_it_serves_tests_of_every_kind_at_once(tmp_path: Path) -> None:
    """Plain, pytest-asyncio's and anyio's, spread over two processes, with strict markers."""
    told = run(tmp_path, CODE + SYNC + ASYNCIO + ANYIO, "-n", "2")

    assert "3 passed" in told


def test_who_does_not_use_it_pays_nothing(tmp_path: Path) -> None:
    """A run without the fixture loads the plugin and nothing behind it."""
    told = run(tmp_path, IDLE)

    assert "1 passed" in told


def test_its_marker_is_listed(tmp_path: Path) -> None:
    """A newcomer finds it by asking pytest."""
    assert "@pytest.mark.apixo_emulator(**settings)" in run(tmp_path, IDLE, "--markers")
