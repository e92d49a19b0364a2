from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import strategies as st

from apixo_async._wire import fingerprint
from apixo_async.batch.inputs import JobFile
from apixo_async.batch.journal import Entry
from apixo_async.errors import InvalidRequestError
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import Choices, damaged, scripts, spoilt
from tests.fuzz.test_answers import NOW

ROWS: list[dict[str, object]] = [
    {"prompt": "a fox", "mode": "fast", "key": "k1", "seed": 7, "metadata": {"a": 1}},
    {
        "prompt": "b",
        "image_urls": ["https://a.example/b.png"],
        "generationType": "REFERENCE_2_VIDEO",
    },
    {"prompt": "c", "taskId": "t1", "watermark": "me", "extra_input": {"x": [1]}},
    {"model": "other-1", "input": {"text": "d"}, "provider": "auto"},
]
TABLES = [
    b"prompt,mode,key,seed\na fox,fast,k1,7\nb,quality,k2,\n",
    b'prompt,image_urls,metadata\n"a, b","https://a.example/1.png https://a.example/2.png","{""a"":1}"\n',
    b"\xef\xbb\xbfmodel;input\nm;{}\n",
    b'input,model,extra_input\n"{""a"": [1]}",m,\n',
    b'prompt\n"two\nlines"\n\n"unclosed\n',
]
LINES = [b"a fox\n\nb\n", b"\xef\xbb\xbfa\r\nb\rc\n", b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n"]


class Place:
    """Where the files of the examples are written."""

    directory: Path


@pytest.fixture(scope="module", autouse=True)
def _place() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as directory:
        Place.directory = Path(directory)
        yield


def jsonl_of(script: bytes) -> bytes:
    """JSON lines, one of them spoilt, with something between them."""
    choices = Choices(script)
    rest = bytes(choices.below(256) for _ in range(8))
    ends = [b"\n", b"\r\n", b"\n\n", b"\r", b"", b"\x0b", b" \n"]
    return b"".join(spoilt(choices.of(ROWS), rest) + choices.of(ends) for _ in range(2))


def table_of(script: bytes) -> bytes:
    """A table with something done to it, once or twice."""
    choices = Choices(script)
    text = choices.of(TABLES)
    for _ in range(choices.below(3)):
        text = damaged(text, choices)
    return text


def text_of(script: bytes) -> bytes:
    """Prompts with something done to them."""
    choices = Choices(script)
    return damaged(choices.of(LINES), choices)


def check(file: JobFile, body: bytes) -> None:
    """Every line is a job that can be run and kept, or names its place and what is wrong."""
    most = body.count(b"\n") + body.count(b"\r") + 1
    jobs = []
    for line in file.lines():
        assert 1 <= line.number <= most
        assert (line.job is None) == bool(line.problems)
        for problem in line.problems:
            assert problem.line == line.number
            assert problem.rule
            assert problem.shown("f").startswith(f"f:{line.number}: ")
        if line.job is not None:
            jobs.append(line.job)
            assert len(fingerprint(line.job.request)) == 64
            entry = Entry.new(1, line.job, at=NOW)
            assert fingerprint(entry.asked()) == entry.fingerprint
            assert entry.job().metadata == line.job.metadata
    assert len({job.key for job in jobs}) == len(jobs)
    check_as_a_whole(file)


def check_as_a_whole(file: JobFile) -> None:
    """A file that has no problems gives as many jobs as it says; another one is refused."""
    try:
        file.check()
        number = len(list(file))
    except InvalidRequestError as error:
        assert error.problems
    else:
        assert len(file) == number >= 1


def write(name: str, body: bytes) -> JobFile:
    """A file with this content."""
    path = Place.directory / name
    path.write_bytes(body)
    return JobFile(path, name="f")


@fuzzed(scripts.map(jsonl_of), slow=1_500)
def test_spoilt_json_lines(body: bytes) -> None:
    """Whatever is wrong in a line is told with its number, and the other lines are read."""
    check(write("a.jsonl", body), body)


@fuzzed(scripts.map(table_of), slow=1_200)
def test_a_spoilt_table(body: bytes) -> None:
    """The same for CSV, whose lines may hold line breaks."""
    check(write("a.csv", body), body)


@fuzzed(scripts.map(text_of), slow=800)
def test_spoilt_prompts(body: bytes) -> None:
    """The same for plain text."""
    check(write("a.txt", body), body)


@fuzzed(st.sampled_from(["a.jsonl", "a.csv", "a.txt"]), st.binary(max_size=40), slow=1_000)
def test_a_file_of_any_bytes(name: str, body: bytes) -> None:
    """Pictures and programs are no input, and are told so."""
    check(write(name, body), body)


@fuzzed(
    st.sampled_from(ROWS).flatmap(lambda row: scripts.map(partial(spoilt, row)))
    | scripts.map(text_of),
    slow=500,
)
def test_a_stream_of_any_bytes(body: bytes) -> None:
    """What comes through a pipe is checked like a file."""
    with JobFile.from_stream(BytesIO(body), name="f") as file:
        check(file, body)
