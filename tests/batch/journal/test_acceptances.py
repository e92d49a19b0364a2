"""What the journal keeps of the answers that accepted a submit."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apixo_async import BatchRunner, PollSchedule, TextToVideo
from apixo_async._wire import Reply
from tests.fakes import FakeApi, client_for

SCHEDULE = PollSchedule(first=0.01, interval=0.01)
SAID = datetime(2026, 11, 26, 20, 14, 1, tzinfo=UTC)
WHOLE = b'{"code":200,"data":{"taskId":"task_1"},"pad":"' + b"x" * 9_000 + b'"}'
CUT = b'{"code":200,"data":{"taskId":"task_2"},'
UNDATED = b'{"code":200,"data":{"taskId":"task_3"}}'


def acceptances(path: Path) -> list[dict[str, Any]]:
    """The history of a journal, as far as it is about accepted submits."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT data FROM events WHERE kind = 'Accepted' ORDER BY job")
        return [json.loads(data) for (data,) in rows]


async def test_an_acceptance_is_kept_as_it_was_said(tmp_path: Path) -> None:
    """The answer, shortened, and the server's time, also of a cut answer that was enough."""
    path = tmp_path / "run.db"
    replies = [Reply(200, WHOLE, sent_at=SAID), Reply(200, CUT, sent_at=SAID), Reply(200, UNDATED)]
    api = FakeApi(
        duration=lambda _: 0.01, on_submit=lambda n, _: replies[n - 1], accept_anyway=True
    )
    async with client_for(api, schedule=SCHEDULE) as client:
        await BatchRunner(client, journal=path).run([TextToVideo("one")] * 3)

    kept = acceptances(path)
    assert [data["task_id"] for data in kept] == ["task_1", "task_2", "task_3"]
    texts = [WHOLE[:2_000].decode(), CUT.decode(), UNDATED.decode()]
    assert [data["received"] for data in kept] == texts
    times = ["2026-11-26T20:14:01.000+00:00"] * 2
    assert [data["answered_at"] for data in kept] == [*times, None]
