import math
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apixo_async._wire import EXCERPT_CHARACTERS, candidate_task_id, excerpt, task_ids_in
from apixo_async._wire.text import http_date, retry_after_seconds

NOW = datetime(2026, 1, 9, 13, 33, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("7.5", 7.5),
        (" 7\t", 7.0),
        ("0", 0.0),
        ("007", 7.0),
        ("1000000000", 1e9),
        ("Fri, 09 Jan 2026 13:33:37 GMT", 7.0),
        ("Fri, 09 Jan 2026 14:33:37 +0100", 7.0),
        ("Fri, 09 Jan 2026 13:33:37 -0000", 7.0),
        ("Fri, 09 Jan 2026 13:33:31 GMT", 1.0),
        ("Fri, 09 Jan 2026 13:33:30 GMT", None),
        ("Fri, 09 Jan 2026 13:33:29 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - NOW).total_seconds(),
        ),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 99 Jan 2026 13:33:37 GMT", None),
        ("-7", None),
        ("+7", None),
        ("-0", None),
        ("nan", None),
        ("inf", None),
        ("Infinity", None),
        ("1e9", None),
        ("1_000", None),
        ("0x10", None),
        ("7,5", None),
        ("7, 9", None),
        ("7 9", None),
        ("7s", None),
        ("\u0667", None),
        ("\uff17", None),
        ("1" * 13, None),
        ("1" * 5_000, None),
        ("soon", None),
        ("\x00", None),
    ],
    ids=ascii,
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    """Seconds and HTTP dates to come are honoured; whatever else some server sends is absent."""
    assert expected == retry_after_seconds(value, now=NOW)


words = st.sampled_from(
    [
        "Fri,",
        "09",
        "Jan",
        "2026",
        "13:33:37",
        "99:99:99",
        "GMT",
        "+9999",
        "-99999",
        "1e400",
        "-",
        ":",
    ]
)


@settings(max_examples=300)
@given(st.text() | st.lists(words, max_size=8).map(" ".join) | st.integers().map(str))
@example("Fri, 09 Jan 2026 13:33:37 +99999999999999999999")
@example(" ")
@example("Mon, ")
def test_no_retry_after_does_harm(value: str) -> None:
    """Whatever the header holds, it never raises and never gives a negative or endless wait."""
    seconds = retry_after_seconds(value, now=NOW)

    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@given(st.none() | st.text() | st.lists(words, max_size=8).map(" ".join))
@example("Mon, 01 Jan 0001 00:00:00 +1400")
@example("Fri, 31 Dec 9999 23:59:59 -1200")
def test_no_date_does_harm(value: str | None) -> None:
    """Whatever a `Date` header holds, it is a time in UTC or none."""
    moment = http_date(value)

    assert moment is None or moment.utcoffset() == timedelta()


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001  # the zone is drawn
    st.integers(-14, 14),
)
def test_every_zone_is_understood(moment: datetime, hours: int) -> None:
    """A date counts from now in whatever zone it is written; one that is past is absent."""
    whole = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))
    left = (whole - NOW).total_seconds()

    assert retry_after_seconds(format_datetime(whole), now=NOW) == (left if left > 0 else None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"plain", "plain"),
        (b" two \r\n\t lines ", "two lines"),
        ("\ufeff海".encode(), "海"),
        (b"a\x00b\x1b[31mc\x7f", "a b [31mc"),
        (b"\xff\xfeab", "\ufffd\ufffdab"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (b"  <p>a &amp; b</p>", "a & b"),
        (b"<style>p { x }</style>a<script>b</script>c", "a c"),
        (b"<SCRIPT>\nb\n</SCRIPT >c", "c"),
        (b'{"a": "1 < 2 > 0"}', '{"a": "1 < 2 > 0"}'),
        (b"<unclosed", "<unclosed"),
        (b"x" * 10_000, "x" * 2_000),
        (b"<p>" + b"x" * 10_000, "x" * 2_000),
    ],
    ids=[
        "empty",
        "plain",
        "lines",
        "byte order mark",
        "control characters",
        "no text",
        "html",
        "entities",
        "script and style",
        "script in capitals",
        "comparison in json",
        "unclosed tag",
        "long",
        "long html",
    ],
)
def test_an_excerpt_is_one_readable_line(body: bytes, expected: str) -> None:
    """What a person sees of a foreign body is short, printable and free of markup."""
    assert expected == excerpt(body)


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: ("<" + text).encode("utf-8", "replace"))
)
def test_every_body_has_an_excerpt(body: bytes) -> None:
    """No bytes can spoil a log: the excerpt is always one printable line of limited length."""
    line = excerpt(body)

    assert line.isprintable()
    assert len(line) <= EXCERPT_CHARACTERS
    assert line == line.strip()


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ('{"code":200,"data":{"taskId":"task_12345678"}}', "task_12345678"),
        ('{"code":200,"data":{"taskId" : "task_1"', "task_1"),
        ('{"code":200,"data":{"taskId":"task_1"},"echo":{"taskId":"task_1"}}', "task_1"),
        ('{"code":200,"data":{"taskId":"task_1', None),
        ('{"taskId":"a"} {"taskId":"b"}', None),
        ('{"taskId":""}', None),
        ('{"taskId":"a b"}', None),
        ('{"taskId":"\x1b[2J"}', None),
        ('{"taskId":"a\\"b"}', 'a"b'),
        (r'{"taskId":"t\/\u0031"}', "t/1"),
        (r'{"taskId":"\ud800"}', None),
        ('{"taskId":7}', "7"),
        ('{"taskId": -0 }', "0"),
        ('{"taskId":7.5}', None),
        ('{"taskId":7', None),
        ('{"taskId":true}', None),
        ('{"taskid":"a"}', None),
        ('{"taskId":"' + "a" * 513 + '"}', None),
        ("", None),
        ("<html>", None),
    ],
    ids=[
        "whole",
        "cut after the id",
        "the same twice",
        "cut within the id",
        "two ids",
        "empty",
        "with a space",
        "with a control character",
        "with an escaped quote",
        "with escapes",
        "with half a character",
        "a number",
        "the number 0",
        "a fraction",
        "a number at the end",
        "a boolean",
        "another name",
        "too long",
        "nothing",
        "html",
    ],
)
def test_an_id_in_a_broken_answer_is_found_if_it_is_whole(
    received: str, expected: str | None
) -> None:
    """Of what arrived, one complete id is a hint; a part of one, or several, is none."""
    assert expected == candidate_task_id(received)


WHOLE = '{"code":200,"message":"success","data":{"taskId":"task_12345678"}}'


@pytest.mark.parametrize("length", range(len(WHOLE) + 1))
def test_no_cut_gives_a_wrong_id(length: int) -> None:
    """Wherever the page's answer is cut off, the hint is the whole id or nothing."""
    expected = "task_12345678" if length >= WHOLE.index('8"') + 2 else None

    assert expected == candidate_task_id(WHOLE[:length])


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ('{"taskId":"a"} {"taskId":8} {"taskId":"a"}', (("a", "8"), None)),
        ('{"taskId":"a"} {"taskId":"b', (("a",), "b")),
        ('{"taskId":7', ((), "7")),
        ('{"taskId":"t\\', ((), "t\\")),
        ('{"taskId":"', ((), None)),
        ('{"taskId":nul', ((), None)),
        ("x" * 5_000 + '{"taskId":"far"}', (("far",), None)),
    ],
    ids=["several", "one and a part", "digits", "an escape", "no part", "null", "far behind"],
)
def test_all_ids_of_an_answer_are_seen(
    received: str, expected: tuple[tuple[str, ...], str | None]
) -> None:
    """Each different id counts once, wherever it stands; so does the beginning of one."""
    assert expected == task_ids_in(received)


@pytest.mark.parametrize(
    "piece",
    ['"', '{"taskId":', '"taskId":"', '"taskId":"\\"', "[", '"taskId":7', '"taskId" ', "\\"],
)
def test_a_hostile_mebibyte_is_no_work(piece: str) -> None:
    """No id is invented, and the search ends: it never goes back further than one id is long."""
    found, cut = task_ids_in(piece * (2**20 // len(piece)) + " ")

    assert len(found) <= 1
    assert cut is None or len(cut) <= 3


def test_an_excerpt_is_made_of_the_first_8000_bytes() -> None:
    """Enough for 2,000 of the largest characters; what comes behind them is not looked at."""
    assert excerpt("😀".encode() * 2_000) == "😀" * 2_000
    assert excerpt(b" " * 7_999 + b"x" + b"y") == "x"
