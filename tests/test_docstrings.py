"""Public names say what a signature cannot: units, errors, and the source of a rule."""

from __future__ import annotations

import attrs
import pytest

from tests.docstrings import SOURCE, faults_of, field_docs, public, raised, sections

PUBLIC = dict(public())
OBEYS = [
    "apixo_async.ApixoClient",
    "apixo_async.AuthenticationError",
    "apixo_async.BadRequestError",
    "apixo_async.ContentViolationError",
    "apixo_async.ExtendVideo",
    "apixo_async.FramesToVideo",
    "apixo_async.InsufficientCreditsError",
    "apixo_async.InvalidImageURLError",
    "apixo_async.ModelRequest",
    "apixo_async.NotFoundError",
    "apixo_async.PollSchedule",
    "apixo_async.RateLimitedError",
    "apixo_async.ReferenceToVideo",
    "apixo_async.ServerError",
    "apixo_async.Task",
    "apixo_async.TaskFailedError",
    "apixo_async.TaskState",
    "apixo_async.TextToVideo",
    "apixo_async.WebhookReceiver",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_its_signature_cannot(name: str) -> None:
    """Nothing is missing: docstrings, arguments, fields, units, errors, sections that exist."""
    assert faults_of(name, PUBLIC[name]) == []


@pytest.mark.parametrize("name", OBEYS)
def test_what_obeys_the_api_names_the_page(name: str) -> None:
    """The rules of requests, states, schedules and errors can be looked up where they stand."""
    assert SOURCE.search(PUBLIC[name].__doc__ or "")


def _checked(timeout: float) -> float:
    if timeout == 0:
        raise TypeError
    return timeout


@attrs.frozen
class Bad:
    """Wrong in many ways (Veo 3.1 page, poetry).

    Raises:
        PoetryError: Nobody knows it.
    """

    seconds: float
    """A number."""
    size: int
    """A size."""
    name: str

    def wait(self, timeout: float) -> float:
        """Waits (system page).

        Args:
            timeout: How long.
        """
        if timeout < self.seconds:
            raise ValueError(timeout)
        failure = KeyError(timeout)
        if timeout > self.seconds:
            raise failure
        return _checked(timeout)

    @property
    def age(self) -> float:
        """How old."""
        return self.seconds

    def forget(self, what: str) -> None:
        """Forgets."""


def test_what_is_missing_is_found() -> None:
    """Each rule finds what breaks it."""
    assert faults_of("Bad", Bad) == [
        "Bad: the Veo 3.1 page has no section 'poetry'",
        "Bad: no error is called PoetryError",
        "Bad.seconds: a number without a unit",
        "Bad.size: a size without a unit",
        "Bad.name: no docstring",
        "Bad.wait(timeout): a number without a unit",
        "Bad.wait: a number without a unit",
        "Bad.wait: raises KeyError, which is not under Raises",
        "Bad.wait: raises TypeError, which is not under Raises",
        "Bad.wait: raises ValueError, which is not under Raises",
        "Bad.wait: the system page has no section ''",
        "Bad.age: a number without a unit",
        "Bad.forget(what): not under Args",
    ]


def test_docstrings_are_read_as_they_are_meant() -> None:
    """Entries of a section may take several lines, and fields are told by the string below them."""
    text = "First.\n\n    Args:\n        a: One,\n            two.\n        b: Three.\n    "

    assert sections(text) == {"Args": {"a": "One,\n        two.\n", "b": "Three.\n"}}
    assert field_docs(Bad) == {"seconds": "A number.", "size": "A size.", "name": None}
    assert raised(Bad.wait) == {"KeyError", "TypeError", "ValueError"}
