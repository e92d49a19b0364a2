"""The emulator as a program sees it: over HTTP on this machine."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from apixo_async.emulator import FAULTS, Emulator, EmulatorSettings, serve

if TYPE_CHECKING:
    from tests.emulator.conftest import Start
    from tests.hand import Hand


async def test_a_video_from_prompt_to_file(start: Start) -> None:
    """Submit, poll, download: what comes out at the end is a playable file."""
    caller = await start()
    url = await caller.url(aspect_ratio="9:16")
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        video = await response.read()

    assert url.startswith(caller.emulator.base_url + "/files/")
    assert (response.status, response.content_type) == (200, "video/mp4")
    assert video[4:8] == b"ftyp"
    assert caller.emulator.ledger.files_served == 1
    assert caller.emulator.ledger.files_asked_with_key == 0


async def test_a_file_can_be_resumed(start: Start) -> None:
    """Range, If-Range and ETag work over HTTP as they do in the table."""
    caller = await start()
    url = await caller.url()
    async with aiohttp.ClientSession() as session:
        whole = await session.get(url)
        content = await whole.read()
        headers = {"Range": "bytes=1000-", "If-Range": whole.headers["ETag"]}
        rest = await session.get(url, headers=headers)

        assert (rest.status, await rest.read()) == (206, content[1000:])
        head = await session.head(url)
        assert int(head.headers["Content-Length"]) == len(content)


async def test_a_key_that_comes_along_is_noticed(start: Start) -> None:
    """The file is served, and the ledger tells on the client."""
    caller = await start()
    await (await caller.session.get(await caller.url())).read()

    assert caller.emulator.ledger.files_asked_with_key == 1


async def test_a_file_needs_a_finished_task(start: Start, hand: Hand) -> None:
    """No file without a task, before its end, after its expiry, or beyond its results."""
    caller = await start(durations="60", result_lifetime=60, speed=1)
    task_id = await caller.accepted()
    paths = [f"/files/{task_id}/0.mp4", f"/files/{task_id}/1.mp4", "/files/nobody/0.mp4"]
    early = [(await caller.request("GET", path)).http_status for path in paths]
    hand.seconds = 61
    in_time = (await caller.session.get(paths[0])).status
    wrong = await caller.request("POST", paths[0])
    hand.seconds = 121
    late = await caller.request("GET", paths[0])

    assert (early, in_time) == ([404, 404, 404], 200)
    assert wrong.http_status == 405
    assert (late.http_status, late.envelope["message"]) == (403, "Result expired")
    assert (await caller.status(task_id)).data["state"] == "success"


@pytest.mark.parametrize(
    ("fault", "status", "start_of_body"),
    [("download_503", 503, b'{"code":503'), ("download_html", 200, b"<html>")],
)
async def test_a_file_can_be_something_else(
    start: Start, fault: str, status: int, start_of_body: bytes
) -> None:
    """An error instead of a file, honest or with a status that says all is well."""
    caller = await start(faults={fault: 1})
    async with aiohttp.ClientSession() as session:
        response = await session.get(await caller.url())
        body = await response.read()

    assert response.status == status
    assert body.startswith(start_of_body)
    assert caller.emulator.ledger.faults == {fault: 1}
    assert caller.emulator.ledger.files_served == 0


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "test-key", "bearer test-key", "Bearer clé"]
)
async def test_only_the_key_opens(start: Start, header: str | None) -> None:
    """Anything but the documented header with the right key is answered 401."""
    caller = await start()
    headers = {} if header is None else {"Authorization": header}
    async with aiohttp.ClientSession() as session:
        url = f"{caller.emulator.base_url}/api/v1/apikeys/current-balance"
        response = await session.get(url, headers=headers)

    assert response.status == 401
    assert caller.emulator.ledger.unauthorized == 1


async def test_the_balance_is_a_number(start: Start) -> None:
    """Its data is no object but the dollars themselves."""
    caller = await start(balance=74.87)
    answer = await caller.request("GET", "/api/v1/apikeys/current-balance")

    assert answer.envelope == {"code": 200, "message": "success", "data": 74.87}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/generateTask/veo-3-1", 405),
        ("POST", "/api/v1/statusTask/veo-3-1", 405),
        ("DELETE", "/api/v1/apikeys/current-balance", 405),
        ("GET", "/api/v1/tasks", 404),
        ("GET", "/api/v1/apikeys/all", 404),
        ("GET", "/api/v2/statusTask/veo-3-1", 404),
        ("GET", "/", 404),
    ],
)
async def test_other_paths_and_methods_are_refused(
    start: Start, method: str, path: str, status: int
) -> None:
    """They are answered with an envelope like every other error."""
    caller = await start()
    answer = await caller.request(method, path)

    assert (answer.http_status, answer.code, answer.data) == (status, status, None)


async def test_a_body_beyond_a_mebibyte_is_refused(start: Start) -> None:
    """The server protects itself, and says so in an envelope."""
    caller = await start()
    body = io.BytesIO(b" " * 1_100_000)
    answer = await caller.request("POST", "/api/v1/generateTask/veo-3-1", data=body)

    assert (answer.http_status, answer.code) == (400, 400)
    assert "1 MiB" in answer.envelope["message"]


async def test_a_window_of_requests(start: Start, hand: Hand) -> None:
    """Of twelve requests at once ten are let in; when the window has passed, all are again."""
    caller = await start(requests_per_minute=10, speed=1)
    answers = await asyncio.gather(*(caller.status("x") for _ in range(12)))
    hand.seconds = 61
    later = await caller.status("x")

    assert sorted(answer.http_status for answer in answers) == [404] * 10 + [429] * 2
    assert later.http_status == 404
    ledger = caller.emulator.ledger
    assert (ledger.peak_requests_per_window, ledger.throttled["rate"]) == (12, 2)


async def test_a_cap_of_unfinished_tasks(start: Start, hand: Hand) -> None:
    """Of five submits at once three are accepted; when those have ended, three more are."""
    caller = await start(concurrent_tasks=3, durations="60", speed=1)

    async def burst(name: str) -> list[int]:
        submits = (caller.submit(f"{name} {index}") for index in range(5))
        return sorted(answer.http_status for answer in await asyncio.gather(*submits))

    assert await burst("first") == [200, 200, 200, 429, 429]
    hand.seconds = 61
    assert await burst("second") == [200, 200, 200, 429, 429]
    assert caller.emulator.ledger.peak_unfinished == 3


async def test_latency_is_real_time(start: Start) -> None:
    """An answer is held back by the seconds of the setting, however fast the clock runs."""
    caller = await start(latency="uniform:0.05:0.06")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await caller.status("x")

    assert 0.05 <= loop.time() - begun < 30


async def test_faults_repeat_with_the_seed(start: Start) -> None:
    """The same prompts meet the same faults in any order, and others under another seed."""

    async def run(seed: int, *, backwards: bool) -> dict[str, int]:
        caller = await start(seed=seed, faults={"submit_503_before": 0.3})
        prompts = [str(index) for index in range(40)]
        answers = {
            prompt: (await caller.submit(prompt)).http_status
            for prompt in (reversed(prompts) if backwards else prompts)
        }
        return dict(sorted(answers.items()))

    first = await run(7, backwards=False)

    assert first == await run(7, backwards=True)
    assert first != await run(8, backwards=False)
    assert set(first.values()) == {200, 503}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("submit_429", (429, 429)),
        ("submit_429_retry_after", (429, 429)),
        ("submit_503_before", (503, 503)),
        ("submit_500_after", (500, 500)),
        ("no_task_id", (200, 200)),
    ],
)
async def test_a_submit_can_be_answered_otherwise(
    start: Start, fault: str, expected: tuple[int, int]
) -> None:
    """HTTP status and code are those of the fault; no id is told."""
    caller = await start(faults={fault: 1})
    answer = await caller.submit()

    assert (answer.http_status, answer.code) == expected
    assert not answer.data
    assert ("Retry-After" in answer.headers) == (fault == "submit_429_retry_after")


@pytest.mark.parametrize("fault", ["submit_502_html_before", "submit_502_html_after"])
async def test_a_submit_can_be_answered_by_a_proxy(start: Start, fault: str) -> None:
    """The page tells nothing about what became of the submit: that is the point."""
    caller = await start(faults={fault: 1})
    body = {"input": {"mode": "fast", "prompt": "x", "generationType": "TEXT_2_VIDEO"}}
    response = await caller.session.post("/api/v1/generateTask/veo-3-1", json=body)

    assert (response.status, response.content_type) == (502, "text/html")
    assert caller.emulator.ledger.billed_total == (1 if fault.endswith("after") else 0)


@pytest.mark.parametrize(
    ("fault", "http_status", "codes"),
    [
        ("status_429", 429, {429}),
        ("status_429_retry_after", 429, {429}),
        ("status_503", 503, {503}),
        ("status_error_in_200", 200, {429, 500, 503}),
    ],
)
async def test_a_status_request_can_be_refused(
    start: Start, fault: str, http_status: int, codes: set[int]
) -> None:
    """The task itself is not concerned: without the fault it is there again."""
    caller = await start(faults={fault: 1})
    task_id = await caller.accepted()
    answers = [await caller.status(task_id) for _ in range(20)]
    caller.emulator.set_faults({})

    assert {answer.http_status for answer in answers} == {http_status}
    assert {answer.code for answer in answers} == codes
    assert ("Retry-After" in answers[0].headers) == fault.endswith("retry_after")
    assert (await caller.status(task_id)).http_status == 200


async def test_a_submit_s_error_can_hide_in_200(start: Start) -> None:
    """All four codes come up, none of the submits is accepted."""
    caller = await start(faults={"error_in_200": 1})
    answers = [await caller.submit(str(index)) for index in range(40)]

    assert {answer.http_status for answer in answers} == {200}
    assert {answer.code for answer in answers} == {400, 402, 429, 500}
    assert caller.emulator.ledger.accepted == 0


async def test_a_status_can_be_answered_by_a_proxy(start: Start) -> None:
    """What comes is a page, not an envelope."""
    caller = await start(faults={"status_502_html": 1})
    response = await caller.session.get("/api/v1/statusTask/veo-3-1", params={"taskId": "x"})

    assert (response.status, response.content_type) == (502, "text/html")


async def test_a_redirect_followed_is_noticed(start: Start) -> None:
    """Who follows arrives at another path of the same host, and the ledger tells on them."""
    caller = await start(faults={"redirect_307": 1})
    response = await caller.session.post("/api/v1/generateTask/veo-3-1", json={"input": {}})
    ledger = caller.emulator.ledger

    assert response.history[0].status == 307
    assert response.status == 404
    assert (ledger.redirects_followed, ledger.redirects_followed_with_key) == (1, 1)
    assert ledger.accepted == 0


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("failed_task", "GENERATION_FAILED"),
        ("content_violation", "CONTENT_VIOLATION"),
        ("invalid_image_url", "INVALID_IMAGE_URL"),
    ],
)
async def test_a_task_can_fail(start: Start, fault: str, code: str) -> None:
    """It ends in failed with the documented code, and it was billed."""
    caller = await start(faults={fault: 1})
    data = await caller.finished(await caller.accepted())

    assert (data["state"], data["failCode"]) == ("failed", code)
    assert caller.emulator.ledger.finished == {"failed": 1}
    assert caller.emulator.ledger.cost_usd == 0.2


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        ("unknown_state", {"queued", "rendering", "success"}),
        ("processing_r2", {"pending", "processing", "processing_r2", "success"}),
        ("never_ending", {"processing"}),
    ],
)
async def test_a_task_can_be_in_strange_states(
    start: Start, hand: Hand, fault: str, states: set[str]
) -> None:
    """Polling sees every state of the fault on its way."""
    caller = await start(faults={fault: 1}, speed=1)
    task_id = await caller.accepted()
    seen = set[str]()
    for hand.seconds in range(33):
        seen.add((await caller.status(task_id)).data["state"])

    assert seen == states


async def test_a_task_can_be_unknown_at_first(start: Start, hand: Hand) -> None:
    """It is not found right after its acceptance, and found soon after."""
    caller = await start(faults={"early_404": 1}, speed=1)
    task_id = await caller.accepted()
    early = await caller.status(task_id)
    hand.seconds = 10.4

    assert early.http_status == 404
    assert (await caller.status(task_id)).http_status == 200


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("result_object", "dict"), ("result_broken", "str"), ("result_empty", "str")],
)
async def test_a_result_can_be_malformed(start: Start, fault: str, kind: str) -> None:
    """The task is a success, and its URL cannot be had the usual way."""
    caller = await start(faults={fault: 1})
    result = (await caller.finished(await caller.accepted()))["resultJson"]

    assert type(result).__name__ == kind
    with pytest.raises((TypeError, ValueError, IndexError)):
        json.loads(result)["resultUrls"][0]


async def test_fields_can_be_missing(start: Start) -> None:
    """A finished task says when it ended, not when it began."""
    caller = await start(faults={"missing_fields": 1})
    data = await caller.finished(await caller.accepted())

    assert data["completeTime"] > 0
    assert "createTime" not in data
    assert "costTime" not in data


async def test_two_submits_can_get_one_id(start: Start) -> None:
    """The second task exists and is billed, under an id that nobody was told."""
    caller = await start()
    first = await caller.accepted("a")
    caller.emulator.set_faults({"duplicate_task_id": 1})

    assert await caller.accepted("b") == first
    assert len(caller.emulator.tasks()) == 2


async def control(caller: Any, method: str, name: str, body: object = None) -> tuple[int, Any]:  # noqa: ANN401 - JSON
    """Ask a control endpoint, without a key."""
    async with aiohttp.ClientSession(caller.emulator.base_url) as session:
        response = await session.request(method, f"/emulator/{name}", json=body)
        return response.status, await response.json()


async def test_the_ledger_is_the_same_over_http(start: Start) -> None:
    """A program reads what the process sees; asking needs no key and is not counted."""
    caller = await start()
    await caller.finished(await caller.accepted("a"))
    status, shown = await control(caller, "GET", "ledger")

    assert status == 200
    assert shown == caller.emulator.ledger.as_dict()
    assert (shown["billed"], shown["submits_seen"]) == ({"a": 1}, {"a": 1})
    assert shown["finished"] == {"success": 1, "failed": 0}
    assert shown["requests"]["submit"] == 1
    assert shown["requests_total"] == sum(shown["requests"].values())


async def test_bound_and_tasks_over_http(start: Start) -> None:
    """Both are what the Python interface returns."""
    caller = await start()
    task_id = await caller.accepted("a")
    await caller.finished(task_id)

    assert await control(caller, "GET", "bound") == (200, caller.emulator.bound())
    assert await control(caller, "GET", "tasks") == (200, caller.emulator.tasks())
    [task] = caller.emulator.tasks()
    assert (task["id"], task["prompt"], task["state"]) == (task_id, "a", "success")
    assert task["duration"] == 30


async def test_faults_can_be_set_over_http(start: Start) -> None:
    """New rates replace the old ones at once; wrong ones are explained and change nothing."""
    caller = await start(faults={"status_503": 1})

    good = await control(caller, "POST", "faults", {"submit_429": 1})
    bad = await control(caller, "POST", "faults", {"submit_42": 1})

    assert good == (200, {"faults": {"submit_429": 1}})
    assert bad[0] == 400
    assert "submit_42" in bad[1]["error"]
    assert (await caller.submit()).code == 429
    assert (await caller.status("x")).code == 404


@pytest.mark.parametrize("body", [b"{", b"[]", b'"submit_429"'])
async def test_faults_that_are_no_object_are_explained(start: Start, body: bytes) -> None:
    """A control endpoint answers mistakes, it does not fall over."""
    caller = await start()
    async with caller.session.post("/emulator/faults", data=body) as response:
        shown = await response.json()

    assert response.status == 400
    assert shown["error"]


async def test_a_reset_begins_anew(start: Start) -> None:
    """Tasks, counts, money and window are as at the start, faults as in the settings."""
    caller = await start(faults={"status_503": 1}, balance=0.2)
    task_id = await caller.accepted()
    caller.emulator.set_faults({})

    assert await control(caller, "POST", "reset") == (200, {"reset": True})
    assert caller.emulator.ledger.as_dict()["requests_total"] == 0
    assert (await caller.status(task_id)).code == 503
    caller.emulator.set_faults({})
    assert (await caller.status(task_id)).code == 404
    assert await caller.accepted() == task_id


async def test_an_unknown_control_endpoint_is_refused(start: Start) -> None:
    """A mistyped name is told, not ignored."""
    status, shown = await control(await start(), "GET", "ledgers")

    assert (status, list(shown)) == (404, ["error"])


async def test_an_emulator_says_where_it_is() -> None:
    """The address is in its repr, and asking for it before it is open is a clear mistake."""
    emulator = Emulator(EmulatorSettings())
    with pytest.raises(RuntimeError, match="async with"):
        _ = emulator.base_url
    async with emulator:
        assert emulator.base_url.startswith("http://127.0.0.1:")
        assert emulator.base_url in repr(emulator)
        assert emulator.api_key == "test-key"
        assert emulator.api_key not in repr(emulator)


async def test_a_port_in_use_is_reported() -> None:
    """The second emulator on a port fails to open, and leaves nothing behind."""
    async with Emulator() as first:
        port = int(first.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="address already in use"):
            await Emulator(EmulatorSettings(port=port)).__aenter__()


async def test_serving_ends_when_cancelled() -> None:
    """It runs until cancelled, tells when it can be reached, and closes the port behind it."""
    ready: asyncio.Future[Emulator] = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(EmulatorSettings(), on_ready=ready.set_result))
    emulator = await ready
    async with aiohttp.ClientSession(emulator.base_url) as session:
        answer = await session.get("/emulator/bound")
        server.cancel()
        await asyncio.wait({server})

        assert answer.status == 200
        assert server.cancelled()
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get("/emulator/bound")


def test_every_fault_has_a_description_for_the_command_line() -> None:
    """The public table is the one that is drawn from."""
    assert FAULTS["submit_cut_after"].startswith("a submit is taken")
