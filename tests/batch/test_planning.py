from __future__ import annotations

import json
import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from apixo_async import InvalidSettingError, Limits
from apixo_async.batch.inputs import JobFile, Problem
from apixo_async.batch.planning import Duplicate, Plan, expected_seconds, make_plan
from apixo_async.batch.spending import Prices

URL = "https://pictures.example/a.png"
BOTH = Prices({"fast": "0.20", "quality": "1.50"})

EVERY_KIND = (
    {"prompt": "a", "mode": "fast"},
    {"prompt": "b", "mode": "fast"},
    {"prompt": "c"},
    {"prompt": "d", "image_urls": [URL, URL], "mode": "quality"},
    {"prompt": "e", "image_urls": [URL], "generationType": "REFERENCE_2_VIDEO"},
    {"prompt": "f", "taskId": "t1"},
    {"model": "seedance-2-0", "input": {"text": "g", "mode": "text-to-video"}},
    {"model": "veo-3-1", "input": {"prompt": "h"}},
)


def written(directory: Path, *rows: object, limit: int | None = None) -> JobFile:
    """A file of these rows; texts are taken as they are."""
    path = directory / "jobs.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return JobFile(path, limit=limit)


def planned(directory: Path, *rows: object, **settings: Any) -> Plan:  # noqa: ANN401  # those of make_plan
    """The plan of these rows."""
    return make_plan(written(directory, *rows), **settings)


# What is counted


def test_jobs_are_counted_by_type_and_mode(tmp_path: Path) -> None:
    """Every kind of job is a group with its number; the API's own names are used."""
    plan = planned(tmp_path, *EVERY_KIND)

    assert plan.jobs == 8
    assert [(group.model, group.type, group.mode, group.jobs) for group in plan.groups] == [
        ("seedance-2-0", "seedance-2-0", "text-to-video", 1),
        ("veo-3-1", "FIRST_AND_LAST_FRAMES_2_VIDEO", "quality", 1),
        ("veo-3-1", "REFERENCE_2_VIDEO", "fast", 1),
        ("veo-3-1", "TEXT_2_VIDEO", "fast", 2),
        ("veo-3-1", "TEXT_2_VIDEO", "quality", 1),
        ("veo-3-1", "veo-3-1", None, 1),
        ("veo-3-1-extend", "veo-3-1-extend", "fast", 1),
    ]
    assert plan.by_type["TEXT_2_VIDEO"] == 3
    assert plan.by_mode == {"fast": 4, "quality": 2, "text-to-video": 1, None: 1}
    assert sum(plan.by_type.values()) == sum(plan.by_mode.values()) == plan.jobs


def test_a_model_request_counts_as_what_it_asks_for(tmp_path: Path) -> None:
    """The same request written in two ways is of one kind, and the same thing twice."""
    as_fields = {"prompt": "a", "mode": "fast"}
    whole = {**as_fields, "generationType": "TEXT_2_VIDEO", "aspect_ratio": "16:9"}

    plan = planned(tmp_path, as_fields, {"model": "veo-3-1", "input": whole})

    assert plan.by_type == {"TEXT_2_VIDEO": 2}
    assert plan.duplicates[0].line == 2


def test_a_limit_takes_the_first_jobs_and_checks_all(tmp_path: Path) -> None:
    """What the file leaves out costs nothing; what is wrong with it is told all the same."""
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}, {"prompt": ""}]

    plan = make_plan(written(tmp_path, *rows, limit=2), prices=BOTH)

    assert (plan.jobs, plan.duplicate_jobs) == (2, 0)
    assert plan.cost == 3
    assert [problem.line for problem in plan.problems] == [4]


def test_all_problems_come_with_their_lines(tmp_path: Path) -> None:
    """Every broken rule of every line is in the plan; the good lines are counted."""
    plan = planned(
        tmp_path, {"prompt": "a"}, {"prompt": "", "mode": "slow"}, "{", {"prompt": "b", "key": ""}
    )

    found = [(problem.line, problem.field) for problem in plan.problems]
    assert found == [(2, "prompt"), (2, "mode"), (3, ""), (4, "key")]
    assert plan.jobs == 1


def test_an_empty_file_is_a_problem(tmp_path: Path) -> None:
    """A file without jobs takes no time, costs nothing, and is a mistake."""
    plan = planned(tmp_path, prices=BOTH, max_cost=1)

    assert plan.problems == (Problem(1, "", "holds no jobs"),)
    assert (plan.jobs, plan.seconds) == (0, 0.0)
    assert plan.cost == 0


# What is asked for twice


def test_the_same_request_twice_is_two_jobs_that_are_named(tmp_path: Path) -> None:
    """Lines that repeat an earlier line are told with it, whatever their keys; each is paid."""
    plan = planned(
        tmp_path,
        {"prompt": "a"},
        {"prompt": "b", "key": "b1"},
        "",
        {"prompt": "a"},
        {"prompt": "b", "key": "b2"},
        {"prompt": "a", "seed": 1},
        {"prompt": "a"},
        prices=BOTH,
    )

    assert [(twice.line, twice.first) for twice in plan.duplicates] == [(4, 1), (5, 2), (7, 1)]
    assert plan.duplicates[1] == Duplicate(5, 2, "b2")
    assert plan.duplicate_jobs == 3
    assert plan.jobs == 6
    assert plan.cost == Decimal("9.00")


def test_only_the_first_duplicates_are_shown(tmp_path: Path) -> None:
    """However many there are, a few are named and all are counted."""
    plan = planned(tmp_path, *[{"prompt": "a"}] * 30, duplicates_shown=3)

    assert [twice.line for twice in plan.duplicates] == [2, 3, 4]
    assert plan.duplicate_jobs == 29


# What it costs


def test_the_cost_is_exact(tmp_path: Path) -> None:
    """Thousands of dimes add up to dollars."""
    rows = [{"prompt": f"p{number}", "mode": "fast"} for number in range(3_000)]

    plan = planned(tmp_path, *rows, {"prompt": "x"}, prices=Prices({"fast": 0.1, "quality": 1.5}))

    assert plan.cost == plan.known_cost == Decimal("301.5")
    assert plan.missing_prices == ()


def test_missing_prices_are_named(tmp_path: Path) -> None:
    """Where a price is missing there is no cost, only that of the rest, and which to give."""
    plan = planned(tmp_path, *EVERY_KIND, prices=Prices({"fast": "0.20"}), max_cost=100)

    assert plan.missing_prices == ("quality", "seedance-2-0", "veo-3-1")
    assert plan.cost is None
    assert plan.known_cost == Decimal("0.80")
    assert plan.affordable is None
    assert plan.fits is None


def test_known_prices_alone_can_pass_the_cap(tmp_path: Path) -> None:
    """A plan surely does not fit when what is known costs too much already."""
    plan = planned(tmp_path, *EVERY_KIND, prices=Prices({"fast": "0.20"}), max_cost="0.79")

    assert plan.affordable is None
    assert plan.fits is False


@pytest.mark.parametrize(
    ("max_cost", "affordable", "fits"),
    [
        (None, None, None),
        ("3.60", 5, True),
        ("3.59", 4, False),
        ("1.89", 2, False),
        ("0.19", 0, False),
        (0, 0, False),
        (100, 5, True),
    ],
)
def test_a_cap_pays_for_the_first_jobs(
    tmp_path: Path, max_cost: str | int | None, affordable: int | None, fits: bool | None
) -> None:
    """Jobs are paid from the top; the first that does not fit is the end, though others would."""
    modes = ["fast", "quality", "fast", "fast", "quality"]
    rows = [{"prompt": f"p{number}", "mode": mode} for number, mode in enumerate(modes)]

    plan = planned(tmp_path, *rows, prices=BOTH, max_cost=max_cost)

    assert plan.cost == Decimal("3.60")
    assert plan.affordable == affordable
    assert plan.fits is fits


def test_a_bad_cap_is_refused(tmp_path: Path) -> None:
    """A cap that is no amount of money is an error of the setting."""
    with pytest.raises(InvalidSettingError, match="max_cost"):
        planned(tmp_path, {"prompt": "a"}, max_cost=-1)


# How long it takes


@pytest.mark.parametrize(
    ("jobs", "limits", "seconds"),
    [
        (0, {}, 0),
        (1, {}, 120 + 0.012),
        (1_000, {}, 120 + 12),
        (1_001, {}, 240),
        (5_000, {}, 600),
        (200, {"concurrent_tasks": 10}, 2_400),
        (30, {"concurrent_tasks": 3, "requests_per_minute": 10}, 1_200),
        (600, {"requests_per_minute": 60}, 120 + 1_200),
    ],
)
def test_the_duration_follows_the_tighter_limit(
    jobs: int, limits: dict[str, int], seconds: float
) -> None:
    """Waves of two minutes each, or what the request rate lets through."""
    assert expected_seconds(jobs, Limits(**limits)) == pytest.approx(seconds)


def test_a_plan_has_the_duration_of_its_limits(tmp_path: Path) -> None:
    """The account's limits decide; without any, the documented ones."""
    rows = [{"prompt": f"p{number}"} for number in range(4)]

    assert planned(tmp_path, *rows).seconds == expected_seconds(4, Limits())
    assert planned(tmp_path, *rows, limits=Limits(concurrent_tasks=1)).seconds == 480


# How much memory it takes


def test_long_files_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Five thousand jobs are planned in the memory of a few."""
    file = written(tmp_path, *({"prompt": f"prompt {number}"} for number in range(5_000)))

    tracemalloc.start()
    try:
        plan = make_plan(file, prices=BOTH, max_cost=10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert plan.jobs == 5_000
    assert plan.affordable == 6
    assert peak < 1_000_000
