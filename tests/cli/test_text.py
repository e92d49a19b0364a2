from __future__ import annotations

import pytest

from apixo_async.cli.text import (
    columns,
    counted,
    folded,
    lasting,
    noted,
    printable,
    shortened,
    sized,
    table,
)


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    """Escape sequences lose their escape, line breaks become spaces, letters stay."""
    assert (
        printable("\x1b[2Jé\nb\u202ec")
        == "\N{REPLACEMENT CHARACTER}[2Jé b\N{REPLACEMENT CHARACTER}c"
    )


def test_shortened_text_fits() -> None:
    """Text longer than the width ends in an ellipsis and has exactly that width."""
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde\N{HORIZONTAL ELLIPSIS}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3_600, "1 h 00 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_time_spans_read_well(seconds: float, text: str) -> None:
    """A span is shown in the largest unit that fits and the one below it."""
    assert lasting(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(999, "999 B"), (1_000, "1.0 kB"), (2_345_678, "2.3 MB"), (4_500_000_000_000, "4500.0 GB")],
)
def test_sizes_read_well(number: int, text: str) -> None:
    """A size is shown in the unit that leaves up to three digits, gigabytes at most."""
    assert sized(number) == text


def test_one_is_singular() -> None:
    """One job, but zero and two thousand jobs."""
    assert [counted(number, "job") for number in (0, 1, 2_000)] == ["0 jobs", "1 job", "2,000 jobs"]


def test_a_table_is_aligned() -> None:
    """Text stands on the left, numbers on the right, and no line ends with blanks."""
    rows = [("name", "mode", "jobs"), ("a", "", "1,000"), ("long name", "b", "7")]

    assert list(table(rows, numbers_from=2)) == [
        "name       mode   jobs",
        "a                1,000",
        "long name  b         7",
    ]
    assert list(table([("a", ""), ("b", "")], numbers_from=2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("界界界", 6, "界界界"),
        ("界界界", 5, "界界…"),
        ("界界界", 4, "界…"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
        ("ab", 0, ""),
    ],
)
def test_width_is_counted_in_columns(text: str, width: int, short: str) -> None:
    """Some characters take two, some none."""
    assert shortened(text, width) == short
    assert columns(short) <= width


def test_a_table_of_wide_characters_is_aligned() -> None:
    """As they are shown."""
    assert list(table([("名前", "a", "1"), ("b", "", "22")], numbers_from=2)) == [
        "名前  a   1",
        "b        22",
    ]


@pytest.mark.parametrize("width", [1, 2, 7, 20, 33])
def test_wide_lines_are_folded_by_columns(width: int) -> None:
    """Between words where that can be; nothing is lost."""
    text = "鍵 は 長い名前のジョブ and some words, 鍵界界界界界界界界界界界界界界 end"
    lines = list(folded(text, width, indent=4))

    assert max(map(columns, lines)) <= max(2, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert list(folded("鍵 is a key", 8, indent=0)) == ["鍵 is a", "key"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (60, ["failed: k1: no; go on with: apixo wait t1 --model other"]),
        (30, ["failed: k1: no; go on with:", "  apixo wait t1 --model other"]),
        (12, ["failed: k1:", "  no; go on", "  with:", "  apixo wait t1 --model other"]),
    ],
)
def test_a_note_is_broken_between_words_and_its_command_is_not(
    width: int, shown: list[str]
) -> None:
    """A command that a terminal has folded can be copied; one with line breaks could not."""
    line = "failed: k1: no; go on with: apixo wait t1 --model other"

    assert list(noted(line, width)) == shown


def test_a_long_word_of_a_note_stays_whole() -> None:
    """It may be an address."""
    assert list(noted(f"a {'x' * 50} b", 20)) == ["a", f"  {'x' * 50}", "  b"]
