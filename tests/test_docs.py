"""README, tutorial and guides: their code and their commands run, against the emulator."""

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import attrs
import pytest

import apixo_async
from apixo_async import PollSchedule, WebhookReceiver
from apixo_async.client import verbs
from apixo_async.emulator import EmulatorSettings, callbacks
from apixo_async.integrations.postgres import PostgresLimits
from apixo_async.integrations.redis import RedisLimits
from apixo_async.testing import EmulatorThread
from apixo_async.webhooks import reception
from tests.batch.report.journals import make, whole
from tests.pages import (
    OTHER,
    PAGES,
    ROOT,
    RUNNABLE,
    VARIES,
    Block,
    Shell,
    blocks,
    blocks_in,
    execute,
    missing,
    steps,
)
from tests.ports import kept_port
from tests.services import POSTGRES, REDIS, postgres_schema, redis_prefix

BLOCKS = [block for page in PAGES for block in blocks(page)]
TRIED = [block for block in BLOCKS if block.language in RUNNABLE and block.why_not is None]
LONG = "docs/tutorial.md"
SPEED = {LONG: 20.0}
"""How fast the emulator of a page goes, where the page says so; otherwise it is in a hurry."""
PORT = "8200"
"""Where a page has a server listen; the test takes a port that is free."""
SHARES = {"docs/how-to/replicas.md"}
"""Pages whose programs share limits, through servers of the reader's."""
HAS_JOURNAL = {"docs/report.md"}
"""Pages that are about a run.db of the reader's."""
NOT_RUN = [
    ("README.md", "builds an environment of its own; CI runs make test-all"),
    ("README.md", "installs from the network"),
    ("README.md", "prompts.jsonl is the reader's; the tutorial runs the same"),
    ("README.md", "prompts.jsonl is the reader's; the tutorial runs the same"),
    ("docs/benchmarks.md", "takes hours"),
    ("docs/benchmarks.md", "takes hours"),
    ("docs/benchmarks.md", "tests/test_benchmarks.py runs it"),
    ("docs/callbacks.md", "needs an address that is public"),
    ("docs/cli.md", "installs from the network and costs money"),
    ("docs/cli.md", "tests/cli/test_completion.py completes in a real bash"),
    ("docs/cli.md", "tests/cli/test_show.py makes run.db and compares"),
    ("docs/emulator.md", "it runs until Ctrl-C"),
    ("docs/how-to/durable.md", "installs from the network"),
    (
        "docs/how-to/durable.md",
        "it runs until it is ended; tests/integrations/test_durable_page.py runs three of it",
    ),
    ("docs/how-to/hatchet.md", "needs a Hatchet server"),
    ("docs/how-to/hatchet.md", "needs a Hatchet server"),
    ("docs/how-to/pgqueuer.md", "installs from the network"),
    (
        "docs/how-to/pgqueuer.md",
        "tests/integrations/test_pgqueuer.py runs both programs, with PostgreSQL and kills",
    ),
    ("docs/how-to/pgqueuer.md", "as above"),
    ("docs/how-to/pgqueuer.md", "as above"),
    ("docs/how-to/temporal.md", "needs a Temporal server"),
    ("docs/how-to/temporal.md", "needs a Temporal server"),
    ("docs/how-to/temporal.md", "needs a Temporal server"),
    ("docs/how-to/testing.md", "it runs until Ctrl-C"),
    ("docs/index.md", "installs from the network"),
    ("docs/journal.md", "RUN.DB is a journal of the reader's"),
    ("docs/mutation.md", "takes minutes to hours"),
    ("docs/report.md", "installs from the network and costs money"),
    ("docs/saving.md", "needs a bucket, and costs money"),
    ("docs/telemetry.md", "installs from the network"),
    ("docs/tutorial.md", "installs from the network"),
    ("docs/tutorial.md", "it runs until Ctrl-C; the test has one running"),
    ("docs/tutorial.md", "costs money"),
]


class Hurried(PollSchedule):
    """A schedule as fast as the emulator's clock, or nearly so."""

    def __init__(self, **given: float) -> None:
        usual = PollSchedule(**given)
        super().__init__(
            first=usual.first / 600,
            interval=max(usual.interval / 200, 0.01),
            deadline=usual.deadline,
        )


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What a page does to the log is undone."""
    loggers = [logging.getLogger(), logging.getLogger("apixo_async")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory as the reader's: examples/ is there, and a port for callbacks is free."""
    with kept_port() as port:
        yield prepared(tmp_path / "page", port, monkeypatch)


def prepared(directory: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory, with all that is not in it set up as well; callbacks may take their time."""
    monkeypatch.setattr(reception, "RECORD_SECONDS", 30.0)
    monkeypatch.setattr(callbacks, "SHORTEST_PATIENCE", 30.0)
    host = "127.0.0.1"
    monkeypatch.setattr(WebhookReceiver.serve, "__defaults__", (host, port))
    monkeypatch.setenv("APIXO_WEBHOOK_URL", f"http://{host}:{port}/apixo")
    monkeypatch.setenv("APIXO_WEBHOOK_SECRET", "the secret of these pages")
    monkeypatch.setattr(verbs, "PollSchedule", Hurried)
    monkeypatch.setattr(apixo_async, "PollSchedule", Hurried)
    directory.mkdir()
    (directory / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def _servers(page: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Those that the page is about, with nothing of what the page leaves there."""
    if page not in SHARES:
        yield
        return
    with postgres_schema() as schema, redis_prefix() as prefix:
        monkeypatch.setitem(_defaults(PostgresLimits), "schema", schema)
        monkeypatch.setitem(_defaults(RedisLimits), "prefix", prefix)
        monkeypatch.setenv("DATABASE_URL", POSTGRES)
        monkeypatch.setenv("REDIS_URL", REDIS)
        yield


def _defaults(cls: type) -> dict[str, object]:
    defaults: dict[str, object] = cls.__init__.__kwdefaults__  # type: ignore[misc]  # of this class
    return defaults


def _pages() -> Iterator[object]:
    for page in sorted({block.page for block in TRIED}):
        marks = [pytest.mark.slow] if page == LONG else []
        yield pytest.param(page, id=page, marks=marks)


@pytest.mark.timeout(240)  # some pages start a dozen processes
@pytest.mark.usefixtures("_servers")
@pytest.mark.parametrize("page", list(_pages()))
def test_what_a_page_shows_is_what_happens(
    page: str, surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block runs as it stands, in order; only schedules go as fast as the emulator's clock.

    Commands print what is shown below them, and end with 0 unless the next one asks for their code.
    """
    if page in HAS_JOURNAL:
        make(Path("run.db"), whole)
    settings = EmulatorSettings(speed=SPEED.get(page, 600.0))
    with EmulatorThread(settings) as emulator:
        monkeypatch.setenv("APIXO_BASE_URL", emulator.base_url)
        monkeypatch.setenv("APIXO_API_KEY", emulator.api_key)
        with closing(Shell(surroundings, {})) as shell:
            for block in TRIED:
                if block.page == page:
                    _try(block, shell)

        ledger = emulator.ledger
    assert not ledger.billed_twice
    assert ledger.accepted == ledger.finished["success"], "every video was waited for"


def _try(block: Block, shell: Shell) -> None:
    if block.language == "console":
        _try_commands(block, shell)
    elif "apixo_emulator" in block.text:
        _try_tests(block)
    else:
        execute(block)


def _try_commands(block: Block, shell: Shell) -> None:
    with kept_port() as port:
        text = block.text.replace(PORT, str(port))
        _try_steps(block, list(steps(attrs.evolve(block, text=text))), shell, port)


def _wait_for(port: int) -> None:
    """Until what was started in the background listens there; a reader types more slowly."""
    for _ in range(500):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"nothing listens at {port}")


def _try_steps(
    block: Block, given: Sequence[tuple[str, list[str]]], shell: Shell, port: int
) -> None:
    for number, (command, shown) in enumerate(given):
        code, output = shell.run(command)
        if command.endswith("&") and str(port) in command:
            _wait_for(port)
        after = given[number + 1][0] if number + 1 < len(given) else ""
        lacking = missing(shown, output, varies=block.note == VARIES)

        assert not lacking, f"{block.place}: {command} printed\n{output}"
        assert code == 0 or "$?" in after, f"{block.place}: {command}: {code}\n{output}"


def _try_tests(block: Block) -> None:
    """A test that a page shows is run by a pytest of its own."""
    Path("test_of_a_page.py").write_text(block.text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_of_a_page.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert done.returncode == 0, f"{block.place}: {done.stdout}{done.stderr}"


def test_what_cannot_run_says_why() -> None:
    """A block that is not tried is listed here, so that their number cannot grow unseen."""
    assert [(block.page, block.why_not) for block in BLOCKS if block.why_not] == NOT_RUN


def test_every_block_says_what_it_is() -> None:
    """A block is code that runs, or of a language that nobody runs."""
    unknown = [block.place for block in BLOCKS if block.language not in RUNNABLE | OTHER]

    assert not unknown


def test_blocks_are_read_as_they_are_meant() -> None:
    """Notes, commands over several lines, and what is shown below each of them."""
    text = """
<!-- numbers vary -->
```console
$ for n in 1 2; do
>   echo $n
> done
1
...
$ apixo batch \\
    x.jsonl
```
<!-- not run: it is only an example -->
```python
1 / 0
```
"""
    first, second = blocks_in("page", text)

    assert (first.note, first.line, second.why_not) == (VARIES, 3, "it is only an example")
    assert list(steps(first)) == [
        ("for n in 1 2; do\n  echo $n\ndone", ["1", "..."]),
        ("apixo batch \\\n    x.jsonl", []),
    ]


@pytest.mark.parametrize(
    ("shown", "varies", "lacking"),
    [
        (["2 jobs, in 1 s"], False, []),
        (["2   jobs, in 9.5 s"], False, []),
        (["...", "last 3"], False, []),
        (["2 jobs, ..."], False, []),
        (["3 jobs, in 1 s"], False, ["3 jobs, in 1 s"]),
        (["3 jobs, in 1 s"], True, []),
        (["last 3", "2 jobs, in 1 s"], False, ["2 jobs, in 1 s"]),
        (["last"], True, ["last"]),
    ],
)
def test_output_is_compared_as_it_reads(shown: list[str], varies: bool, lacking: list[str]) -> None:
    """Measured times are loose, all else is exact unless it is said to vary, and order counts."""
    assert missing(shown, "2 jobs, in 1 s\nlast 3\n", varies=varies) == lacking


def test_the_first_screen_shows_both_commands() -> None:
    """A visitor sees how to try and how to test it before anything else."""
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:12]

    assert any("make demo" in line for line in first_screen)
    assert any("make test" in line for line in first_screen)


def test_the_changelog_has_a_place_for_what_comes() -> None:
    """The changelog opens with what is not released yet."""
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_example_is_led_to() -> None:
    """The page of examples lists each file, and a guide or a page of a subject leads to it, too."""
    files = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()} - {"README.md"}
    table = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    guides = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES if "docs/" in page)

    assert [name for name in sorted(files) if f"]({name})" not in table] == []
    programs = [name for name in sorted(files) if name.endswith((".py", ".ipynb"))]
    assert [name for name in programs if f"/examples/{name})" not in guides] == []


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
