import copy
import pickle
from collections.abc import Callable

import pytest

from apixo_async._secret import MASK, Secret

KEY = "apx_CANARY_0123456789"


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r:>40}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031  # the old way must be safe, too
        lambda secret: repr([secret, {"key": secret}]),
        lambda secret: str(ValueError(secret)),
    ],
    ids=["repr", "str", "f-string", "padded", "percent", "in containers", "in an error"],
)
def test_no_text_form_shows_the_value(shown: Callable[[Secret], str]) -> None:
    """However a secret is turned into text, the mask stands where the value would."""
    text = shown(Secret(KEY))

    assert KEY not in text
    assert MASK in text


def test_it_says_that_it_is_a_secret() -> None:
    """A reader of a log sees that something is hidden, and what kind of thing."""
    assert repr(Secret(KEY)) == "Secret(***)"
    assert str(Secret(KEY)) == "***"


def test_reveal_is_the_value() -> None:
    """Whoever builds the request header gets the key unchanged."""
    assert Secret(KEY).reveal() == KEY


def test_it_has_no_dict_to_dump() -> None:
    """`vars()`, which debuggers and loggers call, finds nothing."""
    with pytest.raises(TypeError):
        vars(Secret(KEY))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_refuses_to_be_pickled(protocol: int) -> None:
    """No protocol writes the value down, and the error says what to do instead."""
    with pytest.raises(TypeError, match="build the client anew") as caught:
        pickle.dumps(Secret(KEY), protocol)

    assert KEY not in str(caught.value)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_it_refuses_to_be_copied(duplicate: Callable[[Secret], Secret]) -> None:
    """There is one holder of the value, whoever copies what holds it."""
    with pytest.raises(TypeError):
        duplicate(Secret(KEY))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("nothing here", "nothing here"),
        (KEY, "***"),
        (f"Bearer {KEY}", "Bearer ***"),
        (f"{KEY}{KEY} and {KEY}.", "****** and ***."),
        (KEY[:-1], KEY[:-1]),
    ],
    ids=["empty", "absent", "alone", "in a header", "several times", "a part of it only"],
)
def test_redact_masks_every_occurrence(text: str, expected: str) -> None:
    """Text from outside loses the key wherever it stands, and nothing else; bytes do likewise."""
    secret = Secret(KEY)

    assert expected == secret.redact(text)
    assert expected.encode() == secret.redact_bytes(text.encode())


def test_bytes_that_are_no_text_are_redacted_too() -> None:
    """A body in an unknown encoding loses the key and keeps its other bytes."""
    assert Secret(KEY).redact_bytes(b"\xff\x00" + KEY.encode() + b"\xfe") == b"\xff\x00***\xfe"


def test_an_empty_secret_redacts_nothing() -> None:
    """Replacing the empty string would put masks between all characters."""
    assert Secret("").redact("abc") == "abc"
    assert Secret("").redact_bytes(b"abc") == b"abc"


@pytest.mark.parametrize(
    "echo",
    [
        rb"bad key ab\/CD+CANARY==",
        rb"bad key \u0061b/CD+CANARY==",
        rb"bad key \u0061\u0062\u002F\u0043D+CANARY=\u003d",
        b"bad key &#97;b&#x2F;CD+CANARY==",
    ],
    ids=["slash", "one character", "many characters", "entities"],
)
def test_escapes_do_not_hide_the_secret(echo: bytes) -> None:
    """A secret that comes back with JSON or HTML escapes in it is masked all the same."""
    masked = Secret("ab/CD+CANARY==").redact_bytes(echo)

    assert masked == b"bad key ***"
