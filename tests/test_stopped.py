"""Processes that are stopped and go on, and processes without file descriptors."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async.emulator import EmulatorSettings
from apixo_async.testing import EmulatorThread

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.name != "posix", reason="signals and limits are those of POSIX"),
]

JOBS = 300
SPEED = 100
STOPPED = 12.0
"""Longer than the gate's window, the timeouts and the tasks of this test take."""

BATCH = """
import asyncio, json, sys
from apixo_async import ApixoClient, BatchRunner, Limits, PollSchedule, TextToVideo, Timeouts

async def main():
    async with ApixoClient(
        sys.argv[2],
        base_url=sys.argv[1],
        timeout=Timeouts(submit=5, status=5),
        limits=Limits(requests_per_minute=10_000, concurrent_tasks=60),
    ) as client:
        runner = BatchRunner(
            client, journal="run.db", schedule=PollSchedule(first=0.5, interval=0.2)
        )
        report = await runner.run([TextToVideo(f"p{n}") for n in range(int(sys.argv[3]))])
        print(json.dumps(report.counts))

asyncio.run(main())
"""


@pytest.fixture
def emulator() -> Iterator[EmulatorThread]:
    """An emulator whose tasks take about a second."""
    with EmulatorThread(EmulatorSettings(speed=SPEED, seed=5)) as emulator:
        yield emulator


def test_a_process_that_is_stopped_and_goes_on_pays_nothing_twice(
    emulator: EmulatorThread, tmp_path: Path
) -> None:
    """As when a machine is paused: timers are late then, and what was on its way is a doubt."""
    command = [sys.executable, "-c", BATCH, emulator.base_url, emulator.api_key, str(JOBS)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE)
    while emulator.ledger.billed_total < JOBS // 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED)
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=120)

    counts = json.loads(output)
    assert process.returncode == 0
    assert not emulator.ledger.billed_twice
    assert counts["succeeded"] + counts["uncertain"] == JOBS
    assert counts["uncertain"] <= 32, "at most the submits that were on their way"
    assert counts["succeeded"] <= emulator.ledger.billed_total <= JOBS


STARVED = """
import asyncio, json, os, resource, sys
from apixo_async import ApixoClient, TextToVideo
from apixo_async._transport import HttpTransport

tries, send = [], HttpTransport.send

async def counted(transport, method, path, *, body=None):
    tries.append(path)
    return await send(transport, method, path, body=body)

async def main():
    HttpTransport.send = counted
    ocean = TextToVideo("a calm ocean")
    async with ApixoClient(sys.argv[2], base_url=sys.argv[1]) as client:
        await client.submit(ocean)  # what is imported late needs descriptors, too
    async with ApixoClient(sys.argv[2], base_url=sys.argv[1]) as client:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        loop = asyncio.get_running_loop()
        tries.clear()
        began, busy = loop.time(), os.times().user
        loop.call_later(3, resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        await client.submit(ocean)
        print(json.dumps({
            "took": loop.time() - began,
            "busy": os.times().user - busy,
            "tries": len(tries),
        }))

asyncio.run(main())
"""


def test_a_process_without_file_descriptors_waits_for_one(
    emulator: EmulatorThread, tmp_path: Path
) -> None:
    """Nothing was sent, so it is tried again, with pauses that cost no processor time."""
    command = [sys.executable, "-c", STARVED, emulator.base_url, emulator.api_key]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)

    assert said["took"] >= 3
    assert said["busy"] < 1
    assert 2 <= said["tries"] < 30, "about six, by pauses of half a second that double"
    assert emulator.ledger.billed_total == 2
