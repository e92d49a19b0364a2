"""Prompts, signed URLs and the key are the user's: what of them is written down, and where."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from apixo_async import (
    ApixoClient,
    BatchRunner,
    DownloadError,
    Job,
    OutcomeStatus,
    Task,
    TaskState,
    TextToVideo,
    UnansweredError,
)
from apixo_async.cli.app import apixo
from apixo_async.downloads import Downloader
from tests.fakes import Answer, FakeApi, FakeTask, client_for, refusal
from tests.faults import FaultServer, reply
from tests.filehost import NoJitter, files_in, in_turn, video
from tests.virtual import virtual

KEY = "apx_CANARY_7f3b29d1c85e4a60"
PROMPT = "a prompt that nobody else has to read"
SIGNATURE = "Signature=c2lnbmVkIGZvciB5b3Ugb25seQ"


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """All that any logger was told, tracebacks and fields included."""
    formatter = logging.Formatter()
    return "\n".join(f"{formatter.format(it)} {vars(it)!r}" for it in caplog.records)


@virtual
async def test_no_log_shows_a_prompt_or_a_signed_url(caplog: pytest.LogCaptureFixture) -> None:
    """At any level, whether a job succeeds, fails, is refused, is in doubt, or is a bug."""
    caplog.set_level(logging.DEBUG)
    lost = UnansweredError("cut", host="api.test", reason="reset")
    answers: dict[int, Answer] = {2: refusal(422, "no"), 3: lost, 4: RuntimeError("a bug")}

    def failure(task: FakeTask) -> str | None:
        return "INTERNAL" if task.id == "task_1" else None

    def on_status(task: FakeTask) -> Exception | None:
        return lost if task.looks == 1 else None

    api = FakeApi(
        on_submit=lambda number, _: answers.get(number),
        on_status=on_status,
        failure=failure,
        result=lambda task: f'{{"resultUrls": ["https://files.test/v.mp4?{SIGNATURE}"]}}',
    )
    async with client_for(api) as client:
        jobs = [Job(TextToVideo(f"{PROMPT} {n}"), key=f"k{n}") for n in range(8)]
        report = await BatchRunner(client).run(jobs)

    assert set(report.counts) >= {OutcomeStatus.SUCCEEDED, OutcomeStatus.UNCERTAIN}
    assert report.counts[OutcomeStatus.FAILED] >= 2
    assert "look at task" in caplog.text
    assert PROMPT not in logged(caplog)
    assert SIGNATURE not in logged(caplog)


@pytest.mark.parametrize(
    "answer",
    [reply(b"", status="410 Gone"), reply(b"<html>", content_type="text/html"), video()],
    ids=["gone", "a page", "saved"],
)
async def test_neither_log_nor_error_of_a_download_shows_a_signature(
    answer: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A signed URL is as good as a password for its file, so it is told without its query."""
    caplog.set_level(logging.DEBUG)
    told = ""
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    async with FaultServer(in_turn(answer)) as server:
        try:
            url = f"{server.url}/v.mp4?{SIGNATURE}"
            await loader.save(url, tmp_path, "job", overwrite=False)
        except DownloadError as error:
            told = f"{error!r} {error} {vars(error)!r}"
        finally:
            await loader.aclose()

        assert server.seen[0].target == f"/v.mp4?{SIGNATURE}"
    assert SIGNATURE not in told + logged(caplog)


async def test_the_host_has_no_say_in_the_name_of_a_file(tmp_path: Path) -> None:
    """Neither by its URL nor by a header that is made for that."""
    header = 'Content-Disposition: attachment; filename="../../.ssh/authorized_keys"'
    whole = video().replace(b"\r\n", f"\r\n{header}\r\n".encode(), 1)
    loader = Downloader(allow_private_hosts=True, rng=NoJitter())
    async with FaultServer(in_turn(whole)) as server:
        url = f"{server.url}/a/..%2f..%2fetc%2fpasswd"
        await loader.save(url, tmp_path / "videos", "job", overwrite=False)
        await loader.aclose()

    assert b"authorized_keys" in whole
    assert list(files_in(tmp_path / "videos")) == ["job.mp4"]
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
async def test_a_client_is_not_copied_with_its_key(duplicate: Callable[[object], object]) -> None:
    """Neither before its first call nor after it; the error says what to do instead."""
    async with (
        FaultServer(in_turn(reply(b'{"code":200,"message":"","data":1.5}'))) as server,
        ApixoClient(KEY, base_url=server.url) as client,
    ):
        with pytest.raises(TypeError, match="build the client anew") as caught:
            duplicate(client)
        await client.balance()
        with pytest.raises(TypeError, match="build the client anew"):
            duplicate(client)

    assert KEY not in str(caught.value)


def test_what_clients_give_can_be_stored() -> None:
    """A task goes to another process, and the key does not go with it."""
    task = Task(id="t-1", model="veo-3-1", state=TaskState.SUCCESS, urls=("https://a.test/v",))

    assert pickle.loads(pickle.dumps(task)) == task  # noqa: S301  # our own bytes


def test_no_command_takes_a_key_as_an_argument() -> None:
    """Arguments are seen by all who may list processes, and stay in a shell's history."""
    context = click.Context(apixo)
    commands = {name: apixo.get_command(context, name) for name in apixo.list_commands(context)}
    takes_key = {
        (name, option)
        for name, command in commands.items()
        if command is not None
        for parameter in command.params
        for option in parameter.opts
        if any(word in option for word in ("api-key", "token", "secret", "password"))
    }

    # The emulator is told which key it wants: that is nobody's.
    assert {option for name, option in takes_key if name != "emulator"} == {"--api-key-file"}
