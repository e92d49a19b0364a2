"""What is read of a callback: a task id and a state, and whether it may be the end."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async._wire import Claim, read_claim

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("data", "claim"),
    [
        ({"taskId": "t1", "state": "success"}, Claim("t1", "success")),
        ({"taskId": "t1", "state": "failed", "failCode": "X"}, Claim("t1", "failed")),
        ({"taskId": 7, "state": "processing"}, Claim("7", "processing")),
        ({"state": "success"}, Claim(None, "success")),
        ({"taskId": "", "state": ""}, Claim(None, None)),
        ({"taskId": "two words", "state": 5}, Claim(None, None)),
        ({"taskId": "x" * 513, "state": "y" * 65}, Claim(None, None)),
        ({"taskId": "x" * 512, "state": "y" * 64}, Claim("x" * 512, "y" * 64)),
        ({"taskId": "x", "state": "y"}, Claim("x", "y")),
        ({"taskId": "t1", "state": "two\nlines"}, Claim("t1", None)),
        ({"taskId": ["t1"], "state": None}, Claim(None, None)),
    ],
)
def test_what_a_callback_says(data: object, claim: Claim) -> None:
    """An id that the API could have given, and a state of reasonable length."""
    envelope = {"code": 200, "message": "success", "data": data}

    assert read_claim(json.dumps(envelope).encode()) == claim


def test_an_envelope_may_be_missing() -> None:
    """The fields are found where there is no `data`."""
    assert read_claim(b'{"taskId": "t1", "state": "success"}') == Claim("t1", "success")


@pytest.mark.parametrize(
    ("state", "may_be"),
    [("success", True), ("failed", True), (None, True), ("processing", False), ("first", False)],
)
def test_stages_are_no_end(state: str | None, may_be: bool) -> None:
    """Some models call back for each stage; only an end makes us look."""
    assert Claim("t1", state).may_be_end is may_be


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Nothing but `ValueError` comes of whatever somebody sends."""
    try:
        claim = read_claim(json.dumps(value).encode())
    except ValueError:
        assert not isinstance(value, dict)
    else:
        assert claim.task_id is None or claim.task_id.isprintable()


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """So with what is no JSON at all."""
    with contextlib.suppress(ValueError):
        read_claim(body)
