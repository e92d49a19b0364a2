"""The API's decisions on a clock that the test moves."""

import json
from typing import Any

import attrs
import pytest

from apixo_async.emulator.clock import Clock
from apixo_async.emulator.faults import FaultPlan
from apixo_async.emulator.replies import Reply
from apixo_async.emulator.service import Service
from apixo_async.emulator.settings import EmulatorSettings

VEO = "veo-3-1"


@attrs.define
class Bench:
    """A service, and its time in API seconds."""

    service: Service = attrs.field(init=False)
    now: float = 0.0

    def submit(self, prompt: str = "x", *, model: str = VEO, **changes: object) -> Reply:
        given = {"mode": "fast", "prompt": prompt, "generationType": "TEXT_2_VIDEO", **changes}
        body = json.dumps({"input": given}).encode()
        return self.service.submit(model, body, authorized=True)[0]

    def accepted(self, prompt: str = "x", **changes: Any) -> str:  # noqa: ANN401 - handed on
        task_id: str = read(self.submit(prompt, **changes))["data"]["taskId"]
        return task_id

    def status(self, task_id: str, model: str = VEO) -> Reply:
        return self.service.status(model, task_id, authorized=True)

    def faults(self, **rates: float) -> None:
        self.service.plan = FaultPlan.from_rates(self.service.settings.seed, rates)


def bench(**settings: Any) -> Bench:  # noqa: ANN401 - as the settings take it
    """Return a service whose tasks take 100 s."""
    chosen = EmulatorSettings(**{"durations": "100", **settings})
    result = Bench()
    clock = Clock(chosen.speed, lambda: result.now / chosen.speed, 0.0, epoch_ms=0)
    result.service = Service.open(chosen, clock, "http://127.0.0.1:1")
    return result


def read(reply: Reply) -> Any:  # noqa: ANN401 - JSON
    """Return the envelope."""
    return json.loads(reply.body)


def test_a_task_lives_and_ends() -> None:
    """A submit gives an id, under which the task passes through its states to a result."""
    api = bench()
    task_id = api.accepted()
    answers = []
    for api.now in (0, 50, 100):
        answers.append(read(api.status(task_id))["data"])
    data = answers[-1]

    assert [answer["state"] for answer in answers] == ["pending", "processing", "success"]
    assert json.loads(data["resultJson"]) == {
        "resultUrls": [f"http://127.0.0.1:1/files/{task_id}/0.mp4"]
    }
    assert data["completeTime"] - data["createTime"] == data["costTime"] == 100_000


def test_a_task_can_have_several_results() -> None:
    """As many URLs come back as the setting says, all different."""
    api = bench(urls_per_task=3)
    task_id = api.accepted()
    api.now = 100
    result = json.loads(read(api.status(task_id))["data"]["resultJson"])

    assert len(set(result["resultUrls"])) == 3


def test_the_status_lives_on_when_the_result_has_expired() -> None:
    """After 16 days the task can still be asked for."""
    api = bench()
    task_id = api.accepted()
    api.now = 16 * 86_400

    assert read(api.status(task_id))["data"]["state"] == "success"


@pytest.mark.parametrize("model", ["veo-3-1-extend", "sora-2", "", "veo-3-1/x"])
def test_the_status_must_name_the_model_of_the_submit(model: str) -> None:
    """The right id under another model is not found."""
    api = bench()
    reply = api.status(api.accepted(), model)

    assert (reply.status, read(reply)["code"], read(reply)["data"]) == (404, 404, None)


def test_an_unknown_task_is_not_found() -> None:
    """An id that nobody was given has no task; no id at all is a wrong request."""
    api = bench()

    assert api.status("task_12345678").status == 404
    assert api.status("").status == 400


def test_a_wrong_request_is_neither_accepted_nor_billed() -> None:
    """The answer is 400 and names the field; the balance stays as it was."""
    api = bench(balance=1)
    reply = api.submit("")

    assert reply.status == 400
    assert "input.prompt" in read(reply)["message"]
    assert read(api.service.balance(authorized=True))["data"] == 1
    assert api.service.ledger.rejected == {"400": 1}
    assert api.service.ledger.accepted == 0


def test_a_body_that_is_not_json_is_a_wrong_request() -> None:
    """It is answered 400 like any other mistake, and counted as a submit."""
    api = bench()
    reply, task = api.service.submit(VEO, b"{", authorized=True)

    assert (reply.status, task) == (400, None)
    assert api.service.ledger.requests == {"submit": 1}


def test_without_the_key_nothing_is_done() -> None:
    """All three calls answer 401 and are counted."""
    api = bench()
    ledger = api.service.ledger

    statuses = [
        api.service.submit(VEO, b'{"input": {}}', authorized=False)[0].status,
        api.service.status(VEO, "x", authorized=False).status,
        api.service.balance(authorized=False).status,
    ]

    assert statuses == [401, 401, 401]
    assert (ledger.unauthorized, ledger.requests_total, ledger.accepted) == (3, 3, 0)


def test_requests_beyond_the_window_are_refused() -> None:
    """All kinds of requests count together, refused ones too, and a minute later all is well."""
    api = bench(requests_per_minute=3)
    task_id = api.accepted()
    replies = [api.status(task_id), api.service.balance(authorized=True), api.submit("y")]
    api.now = 61

    assert [reply.status for reply in replies] == [200, 200, 429]
    assert api.submit("y").status == 200
    assert api.service.ledger.throttled == {"rate": 1}
    assert api.service.ledger.peak_requests_per_window == 4


def test_tasks_beyond_the_cap_are_refused() -> None:
    """A slot is taken from acceptance until the task has ended on the server."""
    api = bench(concurrent_tasks=2)
    statuses = []
    for api.now in (0, 1, 2, 99.9, 100, 100.5):
        statuses.append(api.submit(f"at {api.now}").status)

    assert statuses == [200, 200, 429, 429, 200, 429]
    assert api.service.ledger.peak_unfinished == 2
    assert api.service.ledger.throttled == {"concurrency": 3}


def test_each_mode_has_its_price() -> None:
    """The balance falls by what each accepted task costs, to the cent."""
    api = bench(balance=10)
    api.submit("a", mode="fast")
    api.submit("b", mode="quality")
    api.submit("c", model="sora-2", mode="pro")

    assert read(api.service.balance(authorized=True))["data"] == 8.2
    assert api.service.ledger.cost_usd == 1.8


@pytest.mark.parametrize(
    ("insufficient_as", "status", "code"), [("400", 400, 400), ("200", 200, 400), ("402", 402, 402)]
)
def test_an_empty_balance_is_answered_as_chosen(
    insufficient_as: str, status: int, code: int
) -> None:
    """The last cent can be spent; then comes the documented refusal, and nothing is billed."""
    api = bench(balance=0.4, insufficient_as=insufficient_as)
    replies = [api.submit(prompt) for prompt in "abc"]

    assert [reply.status for reply in replies] == [200, 200, status]
    assert read(replies[2]) == {"code": code, "message": "Insufficient credits", "data": None}
    assert read(api.service.balance(authorized=True))["data"] == 0


def test_errors_can_all_come_as_http_200() -> None:
    """The documents do not say which it is, so a client must live with either."""
    api = bench(errors_as_http_200=True)
    replies = [
        api.submit(""),
        api.status("nobody"),
        api.service.balance(authorized=False),
        api.service.stray(405),
    ]

    assert [reply.status for reply in replies] == [200] * 4
    assert [read(reply)["code"] for reply in replies] == [400, 404, 401, 405]


def test_an_extension_continues_a_finished_task() -> None:
    """It is a task of its own; with a source that is still running it fails."""
    api = bench()
    source = api.accepted()
    early = api.accepted("more", model="veo-3-1-extend", taskId=source)
    api.now = 100
    late = api.accepted("more", model="veo-3-1-extend", taskId=source)
    api.now = 200

    failed, done = (
        read(api.status(task_id, "veo-3-1-extend"))["data"] for task_id in (early, late)
    )
    assert (failed["state"], failed["failCode"]) == ("failed", "TASKID_ERROR")
    assert done["state"] == "success"


def test_durations_do_not_depend_on_the_order_of_arrival() -> None:
    """Each prompt has the same duration and the same id, whoever comes first."""

    def run(prompts: list[str], seed: int) -> dict[str, tuple[float, str]]:
        api = bench(durations="normal:120:20", seed=seed)
        for prompt in prompts:
            api.submit(prompt)
        return {
            task.submission.prompt: (task.duration, task.id)
            for task in api.service.tasks.by_id.values()
        }

    prompts = [f"prompt {index}" for index in range(50)]

    assert run(prompts, 7) == run(prompts[::-1], 7)
    assert run(prompts, 7) != run(prompts, 8)


def test_the_same_prompt_twice_is_two_tasks() -> None:
    """Each occurrence has an id and a duration of its own."""
    api = bench(durations="normal:120:20")
    first, second = api.accepted(), api.accepted()
    tasks = api.service.tasks.by_id

    assert tasks[first].duration != tasks[second].duration
    assert api.service.ledger.billed_twice == ["x"]


def test_a_refusal_leaves_the_draws_alone() -> None:
    """A submit that was refused for want of a slot gets the same task when it is repeated."""
    full, free = bench(concurrent_tasks=1), bench()
    full.accepted("first")
    full.submit("second")
    full.now = 100

    assert full.accepted("second") == free.accepted("second")


def test_faults_can_be_told_apart_from_limits() -> None:
    """An injected 429 is not counted as one that the client has earned."""
    api = bench(faults={"submit_429": 1})
    reply = api.submit()

    assert reply.status == 429
    assert api.service.ledger.throttled == {"injected": 1}
    assert api.service.ledger.faults == {"submit_429": 1}


@pytest.mark.parametrize(
    ("fault", "accepted"),
    [
        ("submit_429", 0),
        ("submit_429_retry_after", 0),
        ("submit_503_before", 0),
        ("submit_502_html_before", 0),
        ("submit_cut_before", 0),
        ("error_in_200", 0),
        ("redirect_307", 0),
        ("submit_502_html_after", 1),
        ("submit_cut_after", 1),
        ("submit_500_after", 1),
        ("submit_drip_after", 1),
        ("submit_truncated_json_after", 1),
        ("submit_partial_after", 1),
        ("no_task_id", 1),
        ("huge_body", 1),
        ("gzip_bomb", 1),
    ],
)
def test_before_is_free_and_after_is_billed(fault: str, accepted: int) -> None:
    """A fault before acceptance leaves nothing behind; after it there is a task to pay for."""
    api = bench(faults={fault: 1})
    reply = api.submit()
    ledger = api.service.ledger

    assert reply != bench().submit()
    assert ledger.billed_total == len(api.service.tasks.by_id) == accepted
    assert ledger.submits_seen == {"x": 1}
    assert ledger.faults == {fault: 1}


def test_a_submit_can_be_told_another_task_s_id() -> None:
    """Both are billed, and the second's own id is never told."""
    api = bench()
    first = api.accepted("a")
    api.faults(duplicate_task_id=1)

    assert api.accepted("b") == first
    assert api.service.ledger.billed == {"a": 1, "b": 1}


def test_a_wrong_request_can_meet_a_fault_first() -> None:
    """A 503 comes from further out than the check of the fields."""
    api = bench(faults={"submit_503_before": 1})

    assert api.submit("").status == 503


def test_an_early_status_request_may_find_nothing() -> None:
    """With the fault a task appears ten seconds after its acceptance."""
    api = bench(faults={"early_404": 1})
    task_id = api.accepted()
    statuses = []
    for api.now in (0, 9, 10):
        statuses.append(api.status(task_id).status)

    assert statuses == [404, 404, 200]


def test_a_task_without_end_keeps_its_slot() -> None:
    """An hour later it is still unfinished, and it does not count for the bound."""
    api = bench(faults={"never_ending": 1}, concurrent_tasks=1)
    api.accepted()
    api.now = 3_600

    assert api.submit("y").status == 429
    assert api.service.bound()["jobs"] == 0
    assert api.service.ledger.as_dict()["unfinished"] == 1


def test_faults_of_callbacks_spare_those_who_poll() -> None:
    """A task without a callback is not marked, and above all does not end early."""
    api = bench(faults={"callback_early": 1, "callback_lost": 1})
    task_id = api.accepted()

    assert read(api.status(task_id))["data"]["state"] == "pending"
    assert api.service.ledger.faults == {}


def test_retry_after_is_in_real_seconds() -> None:
    """At sixty times the speed the five seconds of the API are over sooner."""
    api = bench(speed=50, faults={"submit_429_retry_after": 1})

    assert api.submit().headers == {"Retry-After": "0.100"}


def test_the_bound_compares_with_the_best_possible() -> None:
    """Two slots, three tasks of 100 s, the third begun 20 s late: 220 s instead of 200."""
    api = bench(concurrent_tasks=2, speed=10)
    for api.now, prompt in ((0, "a"), (0, "b"), (120, "c")):
        api.submit(prompt)
    api.now = 220

    assert api.service.bound() == {
        "slots": 2,
        "jobs": 3,
        "bound_s": 20,
        "bound_api_s": 200,
        "makespan_s": 22,
        "ratio": pytest.approx(1.1),
    }
    ledger = api.service.ledger.as_dict()
    assert (ledger["makespan_s"], ledger["bound_s"]) == (22, 20)
    assert ledger["finished"] == {"success": 3, "failed": 0}


def test_nothing_done_has_no_ratio() -> None:
    """An empty run is not compared."""
    assert bench().service.bound()["ratio"] is None


def test_five_thousand_unfinished_tasks_cost_nothing() -> None:
    """Accepting them is quick, and nothing runs on their behalf: they are rows."""
    api = bench(concurrent_tasks=10_000)
    for index in range(5_000):
        api.submit(str(index))

    assert api.service.ledger.peak_unfinished == 5_000
    assert api.service.tasks.settle(99.9) == 5_000
    assert api.service.tasks.settle(100) == 0
