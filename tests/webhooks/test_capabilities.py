"""Callback URLs: made by us alone, each for one attempt to submit one job."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.errors import InvalidSettingError
from apixo_async.webhooks import Signer, Slip

OLD, NEW = "the first secret of the tests", "the second secret of the tests"
JOBS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)
ATTEMPTS = st.integers(1, 10**9 - 1)


@given(JOBS, ATTEMPTS)
def test_what_was_signed_is_read(job: str, attempt: int) -> None:
    """A URL leads back to the submit it was made for."""
    signer = Signer(NEW)

    assert signer.read(signer.token(Slip(job, attempt))) == Slip(job, attempt)


@given(JOBS, ATTEMPTS, st.data())
def test_one_other_character_is_another_url(job: str, attempt: int, data: st.DataObject) -> None:
    """Nobody gets from one good URL to another."""
    signer = Signer(NEW)
    token = signer.token(Slip(job, attempt))
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda char: char != token[at]))

    assert signer.read(token[:at] + other + token[at + 1 :]) is None


@given(st.text(max_size=120))
def test_any_text_may_come_as_a_url(text: str) -> None:
    """What is no URL of ours is none, whatever it is."""
    assert Signer(NEW).read(text) is None


def test_a_url_has_128_bits_that_cannot_be_guessed() -> None:
    """A path of three parts, the last of them a name of the secret and 16 bytes of a MAC."""
    job, attempt, mac = Signer(NEW).token(Slip("run-7", 2)).split(".")

    assert (job, attempt) == ("run-7", "2")
    assert re.fullmatch(r"[A-Za-z0-9_-]{4}[A-Za-z0-9_-]{22}", mac)


def test_a_secret_is_exchanged_without_losing_a_callback() -> None:
    """The newest signs, and what an old one signed is good as long as that is named."""
    before, after = Signer(OLD), Signer([NEW, OLD])
    slip = Slip("job", 1)

    assert after.read(before.token(slip)) == slip
    assert after.token(slip) == Signer(NEW).token(slip)
    assert Signer(NEW).read(before.token(slip)) is None


def test_text_and_bytes_are_the_same_secret() -> None:
    """Where a secret comes from makes no difference."""
    assert Signer(NEW).token(Slip("j", 1)) == Signer(NEW.encode()).token(Slip("j", 1))


@pytest.mark.parametrize("secret", ["", "too short", b"fifteen bytes..", [], ["x" * 32, "y"], 7])
def test_a_weak_secret_is_refused_without_being_shown(secret: object) -> None:
    """At least 16 bytes, each of them; the message does not give away what was there."""
    with pytest.raises(InvalidSettingError, match="secret must") as caught:
        Signer(secret)  # type: ignore[arg-type]  # that is what is tested

    assert "fifteen" not in str(caught.value)
    assert "too short" not in str(caught.value)


@pytest.mark.parametrize(
    "secret",
    ["x" * 16, b"x" * 16, ["y" * 16, b"x" * 16], "ü" * 8],
    ids=["text", "bytes", "two", "eight characters of two bytes"],
)
def test_sixteen_bytes_are_a_secret(secret: str | bytes | list[str | bytes]) -> None:
    """Of text those of its UTF-8."""
    signer = Signer(secret)

    assert signer.read(signer.token(Slip("j", 1))) == Slip("j", 1)


def test_a_signer_does_not_show_its_secrets() -> None:
    """Neither does its repr."""
    assert NEW not in repr(Signer(NEW))
