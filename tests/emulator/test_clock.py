import asyncio
import time

import pytest

from apixo_async.emulator.clock import Clock


def test_api_time_runs_faster() -> None:
    """With a speed of 60, two real seconds are two minutes, and a minute takes a second."""
    moments = iter([100.0, 102.0])
    clock = Clock.start(60, lambda: next(moments))

    assert clock.now() == 120
    assert clock.real(60) == 1


def test_the_calendar_starts_today() -> None:
    """The API's milliseconds begin at the wall clock and go on in API time."""
    clock = Clock.start(60, lambda: 0.0)

    assert clock.unix_ms(0) == pytest.approx(time.time() * 1000, abs=60_000)
    assert clock.unix_ms(120.5) - clock.unix_ms(0) == 120_500


async def test_the_event_loop_is_the_clock() -> None:
    """What sleeps in the loop is what passes on the clock."""
    loop = asyncio.get_running_loop()
    clock = Clock.start(1_000, loop.time)
    await asyncio.sleep(0.02)
    least, now, most = loop.time(), clock.now(), loop.time()

    assert now > 19
    assert (least - clock.started) * 1_000 <= now <= (most - clock.started) * 1_000
