"""README and guides: their code runs, against the emulator."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from apixo_async import PollSchedule, WebhookReceiver
from apixo_async.client import verbs
from apixo_async.testing import EmulatorThread

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/requests.md", "docs/errors.md", "docs/callbacks.md", "docs/saving.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[tuple[str, str]]:
    """Every Python block of the pages with its place."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{page}:{line}", match.group(1)


BLOCKS = dict(blocks())


@pytest.mark.apixo_emulator(speed=600)
@pytest.mark.parametrize("code", BLOCKS.values(), ids=BLOCKS.keys())
def test_code_on_our_pages_runs(
    code: str,
    apixo_emulator: EmulatorThread,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Each Python block runs as it stands; only the schedule is shrunk with the server's clock.

    A receiver that says nothing of its port gets one that is free.
    """
    with socket.create_server(("127.0.0.1", 0)) as sock:
        host, port = sock.getsockname()
    monkeypatch.setattr(WebhookReceiver.serve, "__defaults__", (host, port))
    monkeypatch.setenv("APIXO_WEBHOOK_URL", f"http://{host}:{port}/apixo")
    monkeypatch.setenv("APIXO_WEBHOOK_SECRET", "the secret of these pages")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verbs, "PollSchedule", lambda: PollSchedule(first=0.1, interval=0.02))
    exec(compile(code, "page", "exec"), {"__name__": "__main__"})  # noqa: S102  # our own pages

    ledger = apixo_emulator.ledger
    assert not ledger.billed_twice
    assert ledger.accepted == ledger.finished["success"], "every video was waited for"


def test_the_first_screen_shows_both_commands() -> None:
    """A visitor sees how to try and how to test it before anything else."""
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:12]

    assert any("make demo" in line for line in first_screen)
    assert any("make test" in line for line in first_screen)


def test_the_changelog_has_a_place_for_what_comes() -> None:
    """The changelog opens with what is not released yet."""
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_error_has_its_cause_and_remedy() -> None:
    """The page of errors has a row for each error of the tree."""
    import apixo_async

    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    errors = [name for name in apixo_async.__all__ if name.endswith("Error")]
    missing = [
        name
        for name in errors
        if name not in {"ApixoError", "TransportError"} and f"| `{name}`" not in page
    ]

    assert not missing
