from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apixo_async.testing import EmulatorThread
from tests.cli.conftest import FAST, json_lines, run

QUICK = {"speed": 50.0, "durations": "5"}
URL = "https://pictures.example/a.png"
ENDLESS = {"speed": 50.0, "durations": "100000"}


@pytest.mark.apixo_emulator(**QUICK)
def test_generate_prints_the_url(apixo_emulator: EmulatorThread) -> None:
    """Standard output holds the URL alone; the task id goes to standard error at once."""
    result = run("generate", "a calm ocean", *FAST)

    (task,) = apixo_emulator.tasks()
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{apixo_emulator.base_url}/files/{task['id']}")
    assert result.stdout.count("\n") == 1
    assert f"accepted as task {task['id']}" in result.stderr


@pytest.mark.apixo_emulator(**QUICK)
def test_generate_saves_the_video(apixo_emulator: EmulatorThread, tmp_path: Path) -> None:
    """With `--save-to` the path of a playable file is printed."""
    result = run("generate", "a calm ocean", *FAST, "--save-to", tmp_path / "new")

    path = Path(result.stdout.strip())
    assert path.parent == tmp_path / "new"
    assert path.read_bytes()[4:8] == b"ftyp"


@pytest.mark.apixo_emulator(**QUICK)
def test_generate_in_json(apixo_emulator: EmulatorThread, tmp_path: Path) -> None:
    """`--json` prints one object with the task and its files."""
    result = run("generate", "a", *FAST, "--json", "--save-to", tmp_path)

    (whole,) = json_lines(result.stdout)
    assert whole["state"] == "success"
    assert Path(whole["files"][0]["path"]).stat().st_size == whole["files"][0]["size"]


@pytest.mark.apixo_emulator(**ENDLESS)
def test_generate_need_not_wait(apixo_emulator: EmulatorThread) -> None:
    """`--no-wait` prints the task id alone and leaves the task running."""
    result = run("generate", "a", "--no-wait")

    (task,) = apixo_emulator.tasks()
    assert result.exit_code == 0
    assert result.stdout == f"{task['id']}\n"


@pytest.mark.parametrize(
    ("options", "model", "sent"),
    [
        pytest.param(
            ["--mode", "fast", "--aspect-ratio", "9:16", "--seed", "7", "--watermark", "w"],
            "veo-3-1",
            {"mode": "fast", "aspect_ratio": "9:16", "seed": 7, "watermark": "w"},
            id="text",
        ),
        pytest.param(
            ["--first-frame", URL, "--last-frame", f"{URL}?2"],
            "veo-3-1",
            {
                "generationType": "FIRST_AND_LAST_FRAMES_2_VIDEO",
                "image_urls": [URL, f"{URL}?2"],
            },
            id="frames",
        ),
        pytest.param(
            ["--image", URL, "--image", f"{URL}?2"],
            "veo-3-1",
            {"generationType": "REFERENCE_2_VIDEO", "image_urls": [URL, f"{URL}?2"]},
            id="reference",
        ),
        pytest.param(["--extend", "t1"], "veo-3-1-extend", {"taskId": "t1"}, id="extend"),
    ],
)
def test_options_become_the_request(
    options: list[str], model: str, sent: dict[str, object]
) -> None:
    """Each option of `generate` reaches the API under the API's own name."""
    from apixo_async._wire import request_input
    from apixo_async.cli.verbs import _request

    given = _given(options)
    request = _request(**given)

    assert request.model == model
    assert sent.items() <= request_input(request).items()


def _given(options: list[str]) -> dict[str, Any]:
    """What click makes of the options, before anything else sees it."""
    from apixo_async.cli.single import generate

    context = generate.make_context("generate", ["a", *options])
    names = "prompt mode aspect_ratio seed watermark provider first_frame last_frame images extend"
    return {name: context.params[name] for name in names.split()}


def test_every_broken_rule_of_a_request_is_named(apixo_emulator: EmulatorThread) -> None:
    """A request that breaks rules ends with 2, names each, and is not sent."""
    result = run("generate", "", "--image", "ftp://x", "--mode", "quality")

    assert result.exit_code == 2
    assert all(name in result.stderr for name in ("prompt:", "image_urls[0]:", "mode:"))
    assert apixo_emulator.ledger.requests_total == 0


@pytest.mark.apixo_emulator(**QUICK, faults={"content_violation": 1})
def test_a_failed_task_exits_with_1(apixo_emulator: EmulatorThread) -> None:
    """The reason of the API is shown on one line, without a traceback."""
    result = run("generate", "a", *FAST)

    assert result.exit_code == 1
    assert "CONTENT_VIOLATION" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.apixo_emulator(**QUICK, faults={"submit_500_after": 1})
def test_an_uncertain_submit_exits_with_3(apixo_emulator: EmulatorThread) -> None:
    """When nobody can say whether a task exists, it is not submitted again and code 3 says so."""
    result = run("generate", "a", *FAST)

    assert result.exit_code == 3
    assert "history" in result.stderr
    assert apixo_emulator.ledger.billed_total == 1


@pytest.mark.apixo_emulator(**QUICK, balance=0.0)
def test_an_empty_balance_exits_with_4(apixo_emulator: EmulatorThread) -> None:
    """Without credits `generate` ends with 4."""
    assert run("generate", "a", *FAST).exit_code == 4


@pytest.mark.apixo_emulator(**ENDLESS)
def test_a_task_that_takes_too_long_can_be_waited_for_again(
    apixo_emulator: EmulatorThread,
) -> None:
    """After the deadline the exact command to go on with is printed."""
    result = run("generate", "a", *FAST, "--deadline", "0.2")

    (task,) = apixo_emulator.tasks()
    assert result.exit_code == 1
    assert f"apixo wait {task['id']}" in result.stderr


@pytest.mark.apixo_emulator(**QUICK)
def test_wait_and_download_bring_home_a_task(
    apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """A task submitted earlier can be waited for, looked at and saved by its id alone."""
    task_id = run("generate", "a", "--no-wait").stdout.strip()

    waited = run("wait", task_id, *FAST)
    status = run("status", task_id)
    saved = run("download", task_id, "--save-to", tmp_path)

    assert waited.stdout.startswith(apixo_emulator.base_url)
    assert "state: success" in status.stdout
    assert waited.stdout.strip() in status.stdout
    assert Path(saved.stdout.strip()) == tmp_path / f"{task_id}.mp4"


@pytest.mark.apixo_emulator(**ENDLESS)
def test_a_running_task_cannot_be_downloaded_yet(
    apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """Downloading too early says how to wait, and exits with 1."""
    task_id = run("generate", "a", "--no-wait").stdout.strip()

    result = run("download", task_id, "--save-to", tmp_path)

    assert result.exit_code == 1
    assert f"apixo wait {task_id}" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.apixo_emulator(**QUICK, result_lifetime=0.001)
def test_an_expired_video_is_not_generated_again(
    apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """When only the download fails, the command to repeat just that is printed."""
    result = run("generate", "a", *FAST, "--save-to", tmp_path)

    (task,) = apixo_emulator.tasks()
    assert result.exit_code == 1
    assert f"apixo download {task['id']}" in result.stderr
    assert apixo_emulator.ledger.billed_total == 1


def test_an_unknown_task_exits_with_1(apixo_emulator: EmulatorThread) -> None:
    """An unknown id is an error that reminds of the model."""
    result = run("status", "no-such-task")

    assert result.exit_code == 1
    assert "--model" in result.stderr


@pytest.mark.apixo_emulator(balance=12.5)
def test_balance_is_printed(apixo_emulator: EmulatorThread) -> None:
    """The balance is shown in US dollars, as text and as JSON."""
    assert run("balance").stdout == "12.50 USD\n"
    assert json_lines(run("balance", "--json").stdout) == [{"balance_usd": 12.5}]


@pytest.mark.apixo_emulator(**ENDLESS)
def test_status_in_json(apixo_emulator: EmulatorThread) -> None:
    """`status --json` is one object with every field of the task."""
    task_id = run("generate", "a", "--no-wait").stdout.strip()

    (whole,) = json_lines(run("status", task_id, "--json").stdout)

    assert whole["task_id"] == task_id
    assert whole["urls"] == []
    assert whole["completed_at"] is None
