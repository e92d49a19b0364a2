from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import Limits
from apixo_async.batch.planning import Duplicate, Group, Plan
from apixo_async.cli.planned import Balance, plan_as_json, plan_lines
from apixo_async.testing import EmulatorThread
from tests.cli.conftest import Start, run

ROOT = Path(__file__).parent.parent.parent
PRICES = ("--price", "fast=0.20", "--price", "quality=1.50")
ALL_LIMITS = ("--concurrent-tasks", "3", "--requests-per-minute", "10")


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has set a key."""
    monkeypatch.delenv("APIXO_API_KEY", raising=False)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two fast jobs, two of quality; the last line repeats the first."""
    path = tmp_path / "mixed.csv"
    path.write_text("prompt,mode\na,fast\nb,quality\nc,quality\na,fast\n")
    return path


def facts(text: str) -> dict[str, str]:
    """The lines below the table, by their first words."""
    lines = text.split("\n\n")[2].splitlines()
    return {line[:10].strip(): line[10:] for line in lines if line[:10].strip()}


# A plan to read


def test_a_plan_without_a_key_says_what_a_file_would_cost(no_key: None, mixed: Path) -> None:
    """A table of kinds, then cost, time and what is asked for twice."""
    result = run("plan", mixed, *PRICES, *ALL_LIMITS)

    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        f"{mixed}: 4 jobs",
        "",
        "  type          mode     jobs  USD each   USD",
        "  TEXT_2_VIDEO  fast        2      0.20  0.40",
        "  TEXT_2_VIDEO  quality     2      1.50  3.00",
        "",
        "cost      3.40 USD",
        "time      about 4 min",
        "          with up to 3 tasks at a time, 2 min each, and 10 requests a minute",
        "twice     1 job asks for the same as an earlier line; it is all paid for",
        "          line 5 as line 2",
    ]


def test_the_page_shows_what_the_command_prints(
    no_key: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example in the documentation is a real one."""
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\$ apixo (plan .*)\n((?s:.*?))^```$", page, re.MULTILINE)

    assert len(examples) == 1
    for command, shown in examples:
        assert run(*command.split()).stdout == shown


def test_a_plan_without_prices_says_which_to_give(no_key: None, mixed: Path) -> None:
    """No price is assumed: without one the plan shows no money, but the options to give."""
    result = run("plan", mixed)

    assert result.exit_code == 0
    assert "USD each" not in result.stdout
    assert facts(result.stdout)["cost"] == (
        "unknown: prices are missing, give --price fast=USD --price quality=USD"
    )


def test_a_mistyped_price_is_warned_about(no_key: None, mixed: Path) -> None:
    """The plan is shown all the same."""
    result = run("plan", mixed, "--price", "fst=1")

    assert result.exit_code == 0
    assert "warning: --price fst=... is the price of no job here" in result.stderr


def test_a_plan_with_some_prices_says_what_is_sure(no_key: None, mixed: Path) -> None:
    """What is known is added up and marked as the least."""
    result = run("plan", mixed, "--price", "fast=0.2", "--max-cost", "5")

    found = facts(result.stdout)
    assert found["cost"] == "at least 0.40 USD: prices are missing, give --price quality=USD"
    assert found["max cost"].startswith("5.00 USD: nobody can say")


@pytest.mark.parametrize(
    ("max_cost", "prices", "said"),
    [
        ("3.40", PRICES, "3.40 USD: all jobs fit"),
        ("3.39", PRICES, "3.39 USD: only the first 3 of 4 jobs fit"),
        ("0.1", PRICES, "0.10 USD: not even the first job fits"),
        ("0.1", PRICES[:2], "0.10 USD: not all jobs fit; how many do needs the missing prices"),
    ],
)
def test_a_plan_says_what_fits_under_a_cap(
    no_key: None, mixed: Path, max_cost: str, prices: tuple[str, ...], said: str
) -> None:
    """Whether all jobs fit, or how many from the top do; that is a fact and no failure."""
    result = run("plan", mixed, *prices, "--max-cost", max_cost)

    assert result.exit_code == 0
    assert facts(result.stdout)["max cost"] == said


def test_max_jobs_plans_the_first(no_key: None, mixed: Path) -> None:
    """Only the first jobs are counted, as a batch would run them."""
    result = run("plan", mixed, *PRICES, "--max-jobs", "2")

    assert result.stdout.startswith(f"{mixed}: 2 jobs\n")
    assert facts(result.stdout)["cost"] == "1.70 USD"
    assert "twice" not in result.stdout


def test_a_plan_can_be_made_of_standard_input(no_key: None) -> None:
    """`-` takes what `apixo batch -` takes."""
    result = run("plan", "-", *PRICES, input='{"prompt": "a"}\n')

    assert result.stdout.startswith("stdin: 1 job\n")
    assert facts(result.stdout)["cost"] == "1.50 USD"


def plan_of(groups: Iterable[Group], **more: Any) -> Plan:  # noqa: ANN401  # those of Plan
    """A plan of these groups."""
    groups = tuple(groups)
    fields: dict[str, Any] = {
        "jobs": sum(group.jobs for group in groups),
        "duplicates": (),
        "duplicate_jobs": 0,
        "seconds": 120.0,
        "max_cost": None,
        "affordable": None,
        "problems": (),
    }
    return Plan(groups=groups, **{**fields, **more})


def text_of(plan: Plan, balance: Balance | None = None) -> str:
    """What people read of it."""
    return "\n".join(plan_lines(plan, Limits(), balance or Balance(), name="jobs.jsonl"))


def group(model: str = "veo-3-1", *, jobs: int = 1, price: str | None = "1") -> Group:
    """Jobs of a model without modes."""
    amount = None if price is None else Decimal(price)
    return Group(model=model, type=model, mode=None, jobs=jobs, price=amount)


def test_models_of_unknown_duration_are_named() -> None:
    """The estimate says for which models it is a mere guess."""
    text = text_of(plan_of([group(), group("seedance-2-0"), group("veo-3-1-extend")]))

    assert "no document says how long these take: seedance-2-0\n" in f"{text}\n"


def test_many_duplicates_are_counted_not_listed() -> None:
    """A few are named, and how many more there are."""
    shown = (Duplicate(7, 1_000, "k"),)

    text = text_of(plan_of([group()], duplicates=shown, duplicate_jobs=1_235))

    assert "1,235 jobs ask for the same as an earlier line" in text
    assert text.endswith("line 7 as line 1,000\n          and 1,234 more")


@pytest.mark.parametrize(
    ("seconds", "said"), [(120.4, "2 min"), (3_599, "60 min"), (9_000, "2 h 30 min")]
)
def test_estimates_are_not_told_to_the_second(seconds: float, said: str) -> None:
    """An estimate is rounded to minutes."""
    assert f"about {said}\n" in text_of(plan_of([group()], seconds=seconds))


def test_names_cannot_steer_the_terminal() -> None:
    """The names of files, models and modes are shown harmlessly and do not burst the table."""
    evil = Group(model="x" * 99, type="\x1b[2J", mode="y" * 999, jobs=1, price=None)

    text = text_of(plan_of([evil]))

    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 120


# The balance


@pytest.mark.apixo_emulator(balance=2)
def test_a_key_shows_the_balance_and_what_it_lacks(
    apixo_emulator: EmulatorThread, mixed: Path
) -> None:
    """One request looks the balance up; when it does not pay for all, the gap is told."""
    result = run("plan", mixed, *PRICES)

    assert result.exit_code == 0
    assert facts(result.stdout)["balance"] == "2.00 USD, which is 1.40 USD short"
    assert apixo_emulator.ledger.requests_total == 1
    assert apixo_emulator.ledger.billed_total == 0


@pytest.mark.apixo_emulator(balance=0.25)
@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ((), "0.25 USD"),
        (("--price", "fast=0.1"), "0.25 USD"),
        (("--price", "fast=0.2"), "0.25 USD, which is at least 0.15 USD short"),
    ],
)
def test_a_balance_is_compared_with_what_is_known(
    apixo_emulator: EmulatorThread, mixed: Path, prices: tuple[str, ...], said: str
) -> None:
    """Where prices are missing the gap is at least that of the known ones."""
    assert facts(run("plan", mixed, *prices).stdout)["balance"] == said


def test_a_refused_key_does_not_spoil_the_plan(
    apixo_emulator: EmulatorThread, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is shown and the balance is unknown, with the reason; that is still success."""
    monkeypatch.setenv("APIXO_API_KEY", "apx_CANARY_wrong")

    result = run("plan", mixed, *PRICES)

    assert result.exit_code == 0
    assert facts(result.stdout)["cost"] == "3.40 USD"
    assert facts(result.stdout)["balance"].startswith("unknown: ")
    assert "check APIXO_API_KEY" in result.stdout
    assert "apx_CANARY_wrong" not in result.output


def test_an_unreachable_host_does_not_spoil_the_plan(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network everything but the balance is told."""
    monkeypatch.setenv("APIXO_API_KEY", "test-key")

    result = run("plan", mixed, *PRICES, "--base-url", "http://127.0.0.1:1")

    assert result.exit_code == 0
    assert "cannot reach 127.0.0.1:1" in facts(result.stdout)["balance"]


@pytest.mark.writes_key("files", reason="a file with the key is the input")
def test_the_key_can_come_from_a_file(
    apixo_emulator: EmulatorThread, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key file is as good as the environment; one that others can read is refused."""
    monkeypatch.delenv("APIXO_API_KEY")
    key = tmp_path / "key"
    key.write_text("test-key\n")
    key.chmod(0o600)
    url = ("--base-url", apixo_emulator.base_url)

    assert "balance" in facts(run("plan", mixed, *url, "--api-key-file", key).stdout)
    key.chmod(0o644)
    assert run("plan", mixed, *url, "--api-key-file", key).exit_code == 2


def test_a_bad_address_is_wrong_usage(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is none ends with 2, as it does for a batch."""
    monkeypatch.setenv("APIXO_API_KEY", "test-key")

    assert run("plan", mixed, "--base-url", "nonsense").exit_code == 2


# JSON


@pytest.mark.apixo_emulator(balance=2)
def test_json_is_one_object_with_everything(apixo_emulator: EmulatorThread, mixed: Path) -> None:
    """Programs get every number, unrounded, under a name that says its unit."""
    result = run("plan", mixed, *PRICES, "--max-cost", "3", "--json", *ALL_LIMITS)

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found.pop("groups")[0] == {
        "model": "veo-3-1",
        "type": "TEXT_2_VIDEO",
        "mode": "fast",
        "jobs": 2,
        "price_usd": 0.2,
        "cost_usd": 0.4,
    }
    assert len(found["duplicates"][0].pop("key")) > 1
    assert found == {
        "file": str(mixed),
        "jobs": 4,
        "by_type": {"TEXT_2_VIDEO": 4},
        "by_mode": {"fast": 2, "quality": 2},
        "duplicate_jobs": 1,
        "duplicates": [{"line": 5, "first": 2}],
        "seconds": 240.0,
        "cost_usd": 3.4,
        "known_cost_usd": 3.4,
        "missing_prices": [],
        "max_cost_usd": 3.0,
        "affordable_jobs": 2,
        "fits": False,
        "balance_usd": 2.0,
        "balance_error": None,
        "balance_suffices": False,
        "save_to": None,
        "problems": [],
    }


@pytest.mark.parametrize(
    ("balance", "prices", "suffices"),
    [
        ("2", ("0.5", "1.5"), True),
        ("1.99", ("0.5", "1.5"), False),
        ("9", ("0.5", None), None),
        ("0.1", ("0.5", None), False),
        (None, ("0.5", "1.5"), None),
    ],
)
def test_json_says_whether_the_balance_suffices(
    balance: str | None, prices: tuple[str | None, ...], suffices: bool | None
) -> None:
    """True or false where it is sure, null where nobody knows."""
    known = Balance() if balance is None else Balance(Decimal(balance))

    found = plan_as_json(plan_of([group(price=price) for price in prices]), known, name="x")

    assert found["balance_suffices"] is suffices


# What is wrong


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_bad_file_is_reported_in_full(
    apixo_emulator: EmulatorThread, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Every problem has a line, as with `apixo batch`; nobody is asked for a balance."""
    path = tmp_path / "bad.jsonl"
    path.write_text('{"prompt": "good"}\n{"prompt": "", "mode": "slow"}\n{\n')

    result = run("plan", path, *options)

    assert result.exit_code == 2
    assert result.stderr == run("batch", path).stderr
    assert [line.split(": ")[0] for line in result.stderr.splitlines()[:3]] == [
        f"{path}:2",
        f"{path}:2",
        f"{path}:3",
    ]
    assert apixo_emulator.ledger.requests_total == 0
    if options:
        problems = json.loads(result.stdout)["problems"]
        assert [(bad["line"], bad["field"]) for bad in problems] == [
            (2, "prompt"),
            (2, "mode"),
            (3, ""),
        ]
    else:
        assert result.stdout == ""


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_an_unreadable_file_is_named(no_key: None, tmp_path: Path, name: str) -> None:
    """A file that is not there, or none, ends with 2 and one line."""
    result = run("plan", tmp_path / name)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: cannot read {tmp_path / name}")


def test_a_pipe_is_planned_by_a_process(no_key: None, start: Start) -> None:
    """The installed command plans what comes through a pipe and says nothing on stderr."""
    process = start("plan", "-", *PRICES, stdin=subprocess.PIPE)

    out, err = process.communicate("one\ntwo\n", timeout=30)

    assert process.returncode == 0
    assert facts(out)["cost"] == "3.00 USD"
    assert err == ""
