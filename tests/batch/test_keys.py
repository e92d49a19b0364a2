import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apixo_async._wire import fingerprint
from apixo_async.batch.keys import KeyIndex
from apixo_async.batch.outcomes import Job
from apixo_async.errors import InvalidRequestError
from apixo_async.veo import TextToVideo
from tests.wire import strategies

A, B = TextToVideo("a"), TextToVideo("b")


@pytest.fixture
def index() -> Iterator[KeyIndex]:
    """An empty index."""
    opened = KeyIndex()
    yield opened
    opened.close()


def key_of(claimed: Job | None) -> str | None:
    """The key that a job was given."""
    return None if claimed is None else claimed.key


def test_a_key_of_its_own_stays(index: KeyIndex) -> None:
    """A job with a key keeps it, with everything else it has."""
    job = Job(A, key="scene-1", metadata={"n": 1})

    assert index.claim(job) == job


def test_a_job_without_a_key_is_named_by_its_request(index: KeyIndex) -> None:
    """The key is the beginning of the fingerprint, which files and records can carry."""
    claimed = index.claim(Job(A, metadata={"n": 1}))

    assert claimed == Job(A, key=fingerprint(A)[:16], metadata={"n": 1})


def test_equal_requests_are_numbered(index: KeyIndex) -> None:
    """The same request several times is several jobs, told apart by their occurrence."""
    keys = [key_of(index.claim(Job(request))) for request in (A, B, A, A, B)]
    a, b = fingerprint(A)[:16], fingerprint(B)[:16]

    assert keys == [a, b, f"{a}-2", f"{a}-3", f"{b}-2"]


@settings(max_examples=30)
@given(st.lists(strategies.text_requests, max_size=8))
def test_the_same_input_gives_the_same_keys(requests: list[TextToVideo]) -> None:
    """Running a file again meets the keys of the first run, and within a run none twice."""
    runs = []
    for _ in range(2):
        index = KeyIndex()
        runs.append([key_of(index.claim(Job(request))) for request in requests])
        index.close()

    assert runs[0] == runs[1]
    assert len(set(runs[0])) == len(requests)
    assert None not in runs[0]


def test_a_job_that_was_seen_is_none(index: KeyIndex) -> None:
    """The same key for the same request is the same job, once, whatever its metadata."""
    index.claim(Job(A, key="scene-1"))

    assert index.claim(Job(A, key="scene-1")) is None
    assert (
        index.claim(Job(TextToVideo("a", mode="quality"), key="scene-1", metadata={"n": 2})) is None
    )


def test_a_key_for_another_request_is_an_error(index: KeyIndex) -> None:
    """The error names key and field, and shows both requests so that they can be found."""
    index.claim(Job(A, key="scene-1"))
    with pytest.raises(InvalidRequestError) as caught:
        index.claim(Job(B, key="scene-1"))

    assert caught.value.subject == "job 'scene-1'"
    ((field, rule),) = caught.value.problems
    assert field == "key"
    assert rule.startswith("was used for another request ")
    assert rule.endswith("; give every job a key of its own")
    assert fingerprint(A)[:16] in rule
    assert fingerprint(B)[:16] in rule
    assert '"prompt":"b"' in rule


def test_an_error_shows_a_long_request_in_short(index: KeyIndex) -> None:
    """A prompt of 10,000 characters does not fill the screen."""
    index.claim(Job(A, key="k"))
    with pytest.raises(InvalidRequestError) as caught:
        index.claim(Job(TextToVideo("x" * 10_000), key="k"))

    assert len(str(caught.value)) < 500


def test_after_an_error_the_first_claim_stands(index: KeyIndex) -> None:
    """The key still belongs to the request that had it first."""
    index.claim(Job(A, key="k"))
    with pytest.raises(InvalidRequestError):
        index.claim(Job(B, key="k"))

    assert index.claim(Job(A, key="k")) is None


@pytest.mark.parametrize(
    "keys", [("k", "K"), ("k", "k "), ("é", "e\u0301"), ("1", "01")], ids=ascii
)
def test_keys_are_compared_to_the_letter(index: KeyIndex, keys: tuple[str, str]) -> None:
    """Keys that merely look alike are two keys."""
    assert [key_of(index.claim(Job(A, key=key))) for key in keys] == list(keys)


def test_the_place_of_the_first_claim_is_kept(index: KeyIndex) -> None:
    """Who repeats a key can be told where it was used first."""
    index.claim(Job(A, key="k"), place=3)
    index.claim(Job(A, key="k"), place=9)
    index.claim(Job(B, key="other"))

    assert index.place_of("k") == 3
    assert index.place_of("other") is None
    assert index.place_of("never") is None


def test_a_closed_index_is_gone() -> None:
    """After closing nothing is held open."""
    index = KeyIndex()
    index.close()
    with pytest.raises(sqlite3.ProgrammingError):
        index.claim(Job(A))


def test_two_indexes_know_nothing_of_each_other(index: KeyIndex) -> None:
    """Two batches in one process may use the same keys."""
    other = KeyIndex()
    index.claim(Job(A, key="k"))

    assert key_of(other.claim(Job(B, key="k"))) == "k"
    other.close()


def test_many_keys_leave_no_file_behind(
    index: KeyIndex, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tens of thousands of keys are held, and found again, without a file in sight."""
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    for number in range(20_000):
        assert index.claim(Job(A, key=f"{number:0100}"), place=number) is not None

    assert index.place_of(f"{19_999:0100}") == 19_999
    assert list(here.iterdir()) == []
