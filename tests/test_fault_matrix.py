"""The published fault matrix names, for every fault, tests that exist."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.named import ROOT, exists

PAGE: Final = ROOT / "docs" / "faults.md"

HEADER: Final = ["#", "fault", "what happens", "shown by"]
SECTIONS: Final[Mapping[str, range]] = {
    "T": range(1, 15),
    "E": range(1, 14),
    "L": range(1, 12),
    "P": range(1, 12),
    "R": range(1, 12),
    "A": range(1, 10),
    "C": range(1, 13),
    "D": range(1, 11),
    "S": range(1, 7),
    "K": range(11),
}
IDS: Final = tuple(f"{letter}{number}" for letter, those in SECTIONS.items() for number in those)
EXPLAINED: Final[Mapping[str, str]] = {"C12": "docs/callbacks.md"}
"""Rows that no test can show, and the page that has a section about them instead."""

_CELL_END: Final = re.compile(r"(?<!\\)\|")
_NAMED: Final = re.compile(r"`([^`]*)`")
_TEST: Final = re.compile(r"(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?")


@attrs.frozen
class Row:
    """One fault of the page."""

    id: str
    fault: str
    what_happens: str
    shown_by: str


def rows_of(page: str) -> Iterator[Row]:
    """The rows of all tables of the matrix, in order; other tables are left alone."""
    is_inside = False
    for line in page.splitlines():
        cells = _cells(line)
        if cells == HEADER:
            is_inside = True
        elif not cells:
            is_inside = False
        elif is_inside and not all(re.fullmatch(":?-+:?", cell) for cell in cells):
            if len(cells) != len(HEADER):
                pytest.fail(f"{cells[0]}: {len(cells)} cells instead of {len(HEADER)}")
            yield Row(*cells)


def _cells(line: str) -> list[str]:
    text = line.strip()
    if not text.startswith("|"):
        return []
    return [cell.strip() for cell in _CELL_END.split(text.removeprefix("|").removesuffix("|"))]


def problems_of(page: str, ids: tuple[str, ...] = IDS, root: Path = ROOT) -> list[str]:
    """What is wrong with a page, a line each; none if it can be believed."""
    rows = list(rows_of(page))
    found = [row.id for row in rows]
    problems = [f"{name}: has {found.count(name)} rows" for name in ids if found.count(name) != 1]
    problems += [f"{name}: is no fault of the matrix" for name in found if name not in ids]
    for row in rows:
        if not row.fault:
            problems.append(f"{row.id}: does not name its fault")
        if not row.what_happens:
            problems.append(f"{row.id}: does not say what happens")
        problems += [f"{row.id}: {problem}" for problem in _problems_of_proof(row, root)]
    return problems


def _problems_of_proof(row: Row, root: Path) -> Iterator[str]:
    named = _NAMED.findall(row.shown_by)
    if not named:
        yield "names no test"
    elif _NAMED.sub("", row.shown_by).replace("<br>", "").strip():
        yield "has more than names in its last cell"
    for name in named:
        page, _, anchor = name.partition("#")
        if page == EXPLAINED.get(row.id) and anchor:
            if anchor not in _anchors(root / page):
                yield f"{page} has no section #{anchor}"
        elif (test := _TEST.fullmatch(name)) is None:
            yield f"`{name}` is no test as tests/test_file.py::test_name"
        elif not exists(*test.groups(default=""), root=root):
            yield f"{name} does not exist"


def _anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page, as they are made of them."""
    headings = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_fault_has_a_row_and_every_row_its_tests() -> None:
    """Each fault is on the page once, with what happens, and every test named there exists."""
    problems = problems_of(PAGE.read_text(encoding="utf-8"))

    assert not problems, "\n".join(problems)


# The check itself, on tables of two faults

GOOD_ROWS: Final = (
    "| T1 | a | b | `tests/test_one.py::test_a`<br>`tests/test_one.py::TestGroup::test_b` |",
    "| C12 | c | d \\| e | `docs/callbacks.md#behind-a-proxy` |",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with two tests and a page of one section."""
    (tmp_path / "tests").mkdir()
    tests = (
        "async def test_a(): ...\nclass TestGroup:\n    def test_b(self): ...\ndef helper(): ..."
    )
    (tmp_path / "tests" / "test_one.py").write_text(tests)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "callbacks.md").write_text("# Callbacks\n\n## Behind a proxy\n")
    return tmp_path


def page_of(*rows: str) -> str:
    """A page with a table for each row, and one that is about something else."""
    header = "| # | fault | what happens | shown by |\n|--:|---|---|---|"
    other = "| word | meaning |\n|---|---|\n| T9 | no row of the matrix |"
    return "\n\n## A section\n\n".join(
        [f"# Faults\n\n{other}", *(f"{header}\n{it}" for it in rows)]
    )


def test_a_good_page_has_no_problems(root: Path) -> None:
    """Tests in classes count, a bar may stand in a cell, and other tables are not looked at."""
    assert problems_of(page_of(*GOOD_ROWS), ("T1", "C12"), root) == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (GOOD_ROWS[1:], "T1: has 0 rows"),
        ((*GOOD_ROWS, GOOD_ROWS[0]), "T1: has 2 rows"),
        ((*GOOD_ROWS, GOOD_ROWS[0].replace("T1", "T2")), "T2: is no fault of the matrix"),
        (("| T1 | a | b | |", GOOD_ROWS[1]), "T1: names no test"),
        (("| T1 | a | b | by reading |", GOOD_ROWS[1]), "T1: names no test"),
        (
            (GOOD_ROWS[0].replace("<br>", " or not "), GOOD_ROWS[1]),
            "T1: has more than names in its last cell",
        ),
        ((GOOD_ROWS[0].replace(" b ", " "), GOOD_ROWS[1]), "T1: does not say what happens"),
        ((GOOD_ROWS[0].replace(" a ", " "), GOOD_ROWS[1]), "T1: does not name its fault"),
        (
            (GOOD_ROWS[0].replace("test_a", "test_c"), GOOD_ROWS[1]),
            "T1: tests/test_one.py::test_c does not exist",
        ),
        (
            (GOOD_ROWS[0].replace("test_a", "helper"), GOOD_ROWS[1]),
            "T1: tests/test_one.py::helper does not exist",
        ),
        (
            (GOOD_ROWS[0].replace("TestGroup::", ""), GOOD_ROWS[1]),
            "T1: tests/test_one.py::test_b does not exist",
        ),
        (
            ("| T1 | a | b | `tests/test_two.py::test_a` |", GOOD_ROWS[1]),
            "T1: tests/test_two.py::test_a does not exist",
        ),
        (
            (GOOD_ROWS[0].replace("test_a`", "test_a[a case]`"), GOOD_ROWS[1]),
            "T1: `tests/test_one.py::test_a[a case]` is no test as tests/test_file.py::test_name",
        ),
        (
            (GOOD_ROWS[0], GOOD_ROWS[1].replace("behind", "before")),
            "C12: docs/callbacks.md has no section #before-a-proxy",
        ),
        (
            ("| T1 | a | b | `docs/callbacks.md#behind-a-proxy` |", GOOD_ROWS[1]),
            "T1: `docs/callbacks.md#behind-a-proxy` is no test as tests/test_file.py::test_name",
        ),
    ],
    ids=[
        "a row is missing",
        "a row is there twice",
        "a row of no known fault",
        "no test",
        "words instead of a test",
        "words beside a test",
        "what happens is empty",
        "the fault is empty",
        "a test that does not exist",
        "a function that is no test",
        "a test of a class without it",
        "a file that does not exist",
        "a case in brackets",
        "a section that does not exist",
        "a section instead of a test",
    ],
)
def test_a_broken_page_is_told(rows: tuple[str, ...], problem: str, root: Path) -> None:
    """Each way to be wrong is named with its row, and nothing else is."""
    assert problems_of(page_of(*rows), ("T1", "C12"), root) == [problem]


def test_a_row_of_other_cells_is_told(root: Path) -> None:
    """A bar too many would move a proof into the cell of something else."""
    with pytest.raises(pytest.fail.Exception, match="T1: 5 cells instead of 4"):
        problems_of(page_of("| T1 | a | b | c | d |"), ("T1",), root)
