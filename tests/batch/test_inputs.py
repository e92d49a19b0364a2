from __future__ import annotations

import io
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from apixo_async import (
    ExtendVideo,
    FramesToVideo,
    InvalidRequestError,
    Job,
    ModelRequest,
    ReferenceToVideo,
    TextToVideo,
)
from apixo_async.batch.inputs import JobFile

URL = "https://pictures.example/a.png"


def written(directory: Path, name: str, content: str | bytes) -> JobFile:
    """A file with this content."""
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return JobFile(path, name=name)


def problems(directory: Path, name: str, content: str | bytes) -> list[str]:
    """All problems of a file with this content, as they are shown."""
    return [problem.shown(name) for problem in written(directory, name, content).problems()]


def lines(*rows: object) -> str:
    """JSONL; texts are taken as they are."""
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


# What good files mean


def test_every_kind_of_request_can_be_written_as_jsonl(tmp_path: Path) -> None:
    """Rows in the API's own field names become the requests that they describe."""
    reference = {"generationType": "REFERENCE_2_VIDEO", "image_urls": [URL]}
    file = written(
        tmp_path,
        "a.jsonl",
        lines(
            {"prompt": "a", "key": "one", "metadata": {"x": [1]}, "mode": "fast", "seed": 7},
            {"prompt": "b", "image_urls": [URL, URL], "mode": "quality"},
            {"prompt": "c", **reference, "key": None},
            {"prompt": "d", "taskId": "t1"},
            {"model": "other-1", "input": {"text": "e"}},
        ),
    )

    assert list(file.problems()) == []
    assert list(file) == [
        Job(TextToVideo("a", mode="fast", seed=7), key="one", metadata={"x": [1]}),
        Job(FramesToVideo("b", first_frame=URL, last_frame=URL)),
        Job(ReferenceToVideo("c", image_urls=[URL])),
        Job(ExtendVideo("d", task_id="t1")),
        Job(ModelRequest("other-1", {"text": "e"})),
    ]


def test_csv_cells_mean_what_their_column_says(tmp_path: Path) -> None:
    """Empty cells are left out, numbers, URLs and JSON are read, quoted line breaks are kept."""
    file = written(
        tmp_path,
        "a.csv",
        "key,prompt,seed,image_urls,generationType,metadata,mode\r\n"
        'one,"a,\nb",7,,,"{""x"": 1}",fast\r\n'
        f"two,c,,{URL}  {URL},FIRST_AND_LAST_FRAMES_2_VIDEO,,\r\n"
        "\r\n"
        f'three,d,,"[""{URL}""]",REFERENCE_2_VIDEO,,\r\n',
    )

    assert list(file.problems()) == []
    assert list(file) == [
        Job(TextToVideo("a,\nb", seed=7, mode="fast"), key="one", metadata={"x": 1}),
        Job(FramesToVideo("c", first_frame=URL, last_frame=URL), key="two"),
        Job(ReferenceToVideo("d", image_urls=[URL]), key="three"),
    ]


def test_other_models_fit_into_csv(tmp_path: Path) -> None:
    """With a column `input` no prompt is needed."""
    file = written(tmp_path, "a.csv", 'model,input\nother-1,"{""text"": ""e""}"\n')

    assert list(file.problems()) == []
    assert [job.request for job in file] == [ModelRequest("other-1", {"text": "e"})]


def test_text_is_one_prompt_a_line(tmp_path: Path) -> None:
    """Blank lines are skipped and white space around a prompt does not count."""
    file = written(tmp_path, "prompts.txt", "\n a calm ocean \r\n\n{a storm}")

    assert [job.request for job in file] == [TextToVideo("a calm ocean"), TextToVideo("{a storm}")]
    assert len(file) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt"])
def test_a_byte_order_mark_is_no_part_of_the_content(tmp_path: Path, name: str) -> None:
    """Files that a Windows editor marked as UTF-8 read like all others."""
    content = {"a.jsonl": '{"prompt": "é"}', "a.csv": "prompt\né", "a.txt": "é"}[name]
    file = written(tmp_path, name, b"\xef\xbb\xbf" + content.encode())

    assert [job.request for job in file] == [TextToVideo("é")]


@pytest.mark.parametrize(
    ("content", "format_"),
    [(b' \n {"prompt": "a"}\n', "jsonl"), (b"\na\n", "text"), (b"", "text")],
)
def test_a_stream_is_jsonl_if_it_begins_like_an_object(content: bytes, format_: str) -> None:
    """The first character that is not blank decides what standard input holds."""
    with JobFile.from_stream(io.BytesIO(content)) as file:
        assert file.format == format_
        assert [job.request for job in file] == ([TextToVideo("a")] if content else [])


def test_a_copied_stream_is_deleted() -> None:
    """Leaving the block removes the temporary copy of a stream."""
    with JobFile.from_stream(io.BytesIO(b"a\n")) as file:
        copy = file.path
        assert copy.exists()
    assert not copy.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_can_be_read_more_than_once(tmp_path: Path) -> None:
    """What is no regular file is copied, so that checking it does not use it up."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("prompt\na\n",))
    writer.start()
    with JobFile(pipe) as file:
        writer.join()
        assert [*file.problems()] == []
        assert [job.request for job in file] == [TextToVideo("a")]


def test_limit_takes_the_first_jobs_and_checks_all(tmp_path: Path) -> None:
    """A limit bounds the jobs and the length, not the check."""
    good, bad = tmp_path / "good.txt", tmp_path / "bad.jsonl"
    good.write_text("a\nb\nc\n")
    bad.write_text('{"prompt": "a"}\n{}\n')

    assert [job.request for job in JobFile(good, limit=2)] == [TextToVideo("a"), TextToVideo("b")]
    assert (len(JobFile(good, limit=2)), len(JobFile(good, limit=9))) == (2, 3)
    assert [problem.line for problem in JobFile(bad, limit=1).problems()] == [2]


def test_long_files_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Going through ten times as many rows needs no more memory."""

    def peak(rows: int) -> int:
        file = written(tmp_path, "a.txt", "x" * 99 + "\n")
        with file.path.open("a") as more:
            more.writelines(f"{'x' * 99}\n" for _ in range(rows))
        tracemalloc.start()
        try:
            assert sum(1 for _ in file) == rows + 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    assert peak(5_000) < peak(500) + 50_000


# What is wrong with bad files


BAD_LINES = [
    pytest.param("{", "1: is not JSON: ", id="no JSON"),
    pytest.param("[1]", "1: must be a JSON object with a prompt, got list", id="no object"),
    pytest.param('{"prompt": "a", "seed": NaN}', "1: is not JSON: NaN does not exist", id="NaN"),
    pytest.param(b'{"prompt": "\xff"}', "1: is not UTF-8", id="no UTF-8"),
    pytest.param({"prompt": "a", "ratio": 1}, "1: ratio: is not a field", id="unknown field"),
    pytest.param({"prompt": "a", "key": 7}, "1: key: must be printable text", id="key no text"),
    pytest.param({"prompt": "a", "key": "k" * 201}, "1: key: must be printable", id="long key"),
    pytest.param({"prompt": "a", "metadata": 1}, "1: metadata: must be a JSON", id="metadata"),
    pytest.param('{"prompt": "a", "prompt": "b"}', "1: prompt: is given twice", id="twice"),
    pytest.param({"prompt": "a", "generationType": []}, "1: generationType: must", id="kind"),
    pytest.param({"prompt": "a", "model": "x"}, "1: input: must be given for model", id="model"),
    pytest.param("[" * 100_000, "1: is not JSON: ", id="nested too deeply"),
]


@pytest.mark.parametrize(("line", "problem"), BAD_LINES)
def test_bad_jsonl_lines_are_named(tmp_path: Path, line: object, problem: str) -> None:
    """Each rule that a line can break is reported with its line, its field and the rule."""
    content = line if isinstance(line, bytes) else lines(line)

    (found,) = problems(tmp_path, "a.jsonl", content)

    assert found.startswith(f"a.jsonl:{problem}")


def test_all_broken_rules_of_all_lines_are_reported_at_once(tmp_path: Path) -> None:
    """One round of mending is enough: no broken rule hides another one."""
    found = problems(
        tmp_path,
        "a.jsonl",
        lines(
            {"prompt": "", "mode": "slow", "key": 7, "metadata": []},
            {"prompt": "good"},
            "",
            {"prompt": "a", "generationType": "X", "seed": "x", "size": 1},
        ),
    )

    assert [line.rsplit(": ", 1)[0] for line in found] == [
        "a.jsonl:1: key",
        "a.jsonl:1: metadata",
        "a.jsonl:1: prompt",
        "a.jsonl:1: mode",
        "a.jsonl:4: size",
        "a.jsonl:4: generationType",
        "a.jsonl:4: seed",
    ]


@pytest.mark.parametrize(
    ("second", "what"),
    [("other", "another request"), ("a", "the same request")],
)
def test_a_key_used_twice_names_both_lines(tmp_path: Path, second: str, what: str) -> None:
    """A key may stand in one line only, whether for another request or for the same one."""
    found = problems(
        tmp_path, "a.jsonl", lines({"prompt": "a", "key": "k"}, "", {"prompt": second, "key": "k"})
    )

    assert len(found) == 1
    assert found[0].startswith(f"a.jsonl:3: key: 'k' was used in line 1 for {what}")


def test_the_same_request_without_keys_is_meant_twice(tmp_path: Path) -> None:
    """Two equal lines without keys are two jobs."""
    file = written(tmp_path, "a.txt", "a\na\n")

    assert list(file.problems()) == []
    assert len(file) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(
            "text\na\n",
            ["1: the header must have a column 'prompt'", "1: text: is no column"],
            id="no prompt",
        ),
        pytest.param(
            "a;b\nc;d\n", ["1: the header must have", "1: a;b: is no column"], id="semicolons"
        ),
        pytest.param("prompt,ratio\na,b\n", ["1: ratio: is no column"], id="wrong column"),
        pytest.param("prompt,prompt\na,b\n", ["1: prompt: is a column twice"], id="twice"),
        pytest.param("prompt,seed\na\nb,1\n", ["2: has 1 cells, but the header has 2"], id="few"),
        pytest.param('prompt,seed\n"x\ny",1\na,2,3\n', ["4: has 3 cells"], id="many"),
        pytest.param("prompt,seed\na,x\n", ["2: seed: must be a whole number"], id="seed"),
        pytest.param("prompt,metadata\na,{\n", ["2: metadata: is not JSON"], id="metadata"),
        pytest.param("prompt,image_urls\na,[\n", ["2: image_urls: is not JSON"], id="urls"),
        pytest.param(b"prompt\n\xff\nb\n", ["2: is not UTF-8"], id="no UTF-8"),
        pytest.param('prompt\na\n"b\nc\n', ["3: is not CSV: unexpected end"], id="open quote"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, content: str | bytes, expected: list[str]) -> None:
    """What can be wrong with a table is reported with the line at which its row begins."""
    found = problems(tmp_path, "a.csv", content)

    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(f"a.csv:{start}")


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "\n"), ("a.csv", ""), ("a.txt", " \n")])
def test_a_file_without_jobs_is_a_mistake(tmp_path: Path, name: str, content: str) -> None:
    """An empty input is reported instead of succeeding at nothing."""
    assert problems(tmp_path, name, content) == [f"{name}:1: holds no jobs"]


def test_a_table_with_only_a_header_holds_no_jobs(tmp_path: Path) -> None:
    """A header alone is an empty input, too."""
    assert problems(tmp_path, "a.csv", "prompt\n") == ["a.csv:1: holds no jobs"]


def test_bytes_that_are_no_text_do_not_end_the_check(tmp_path: Path) -> None:
    """Bad bytes in one line leave the lines after it to be checked."""
    found = problems(tmp_path, "a.txt", b"a\n\xff\nb\n\xc3\n")

    assert [line.split(": ")[0] for line in found] == ["a.txt:2", "a.txt:4"]


def test_check_raises_with_every_problem(tmp_path: Path) -> None:
    """For programs the check is one error that carries all problems."""
    file = written(tmp_path, "a.jsonl", lines({}, {"prompt": "a"}, "x"))

    with pytest.raises(InvalidRequestError) as caught:
        file.check()

    assert [field for field, _ in caught.value.problems] == ["line 1: prompt", "line 3"]


def test_iterating_a_bad_file_stops_at_the_bad_line(tmp_path: Path) -> None:
    """A file that went bad after its check raises where it is bad."""
    jobs = iter(written(tmp_path, "a.jsonl", lines({"prompt": "a"}, {})))
    assert next(jobs).request == TextToVideo("a")

    with pytest.raises(InvalidRequestError, match=r"a\.jsonl, line 2"):
        next(jobs)


def test_lines_are_jobs_with_keys_or_problems(tmp_path: Path) -> None:
    """Each line that is not blank comes once with its number; a good one has its key set."""
    file = written(
        tmp_path, "a.jsonl", lines({"prompt": "a", "key": "k"}, "", {"prompt": ""}, {"prompt": "b"})
    )

    good, bad, keyless = file.lines()
    assert (good.number, good.job, good.problems) == (1, Job(TextToVideo("a"), key="k"), ())
    assert (bad.number, bad.job, len(bad.problems)) == (3, None, 1)
    assert keyless.number == 4
    assert keyless.job is not None
    assert keyless.job.key
