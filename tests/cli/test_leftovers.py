"""Jobs without an outcome: those of the input, and those of another."""

from __future__ import annotations

from apixo_async import Job, TextToVideo
from apixo_async.cli.leftovers import Leftovers
from apixo_async.cli.progress import OpenJob

JOBS = [Job(TextToVideo("a"), key="a"), Job(TextToVideo("b"), key="b")]
A, X = OpenJob("a"), OpenJob("x")
NEW = OpenJob("new", is_new=True)


def test_jobs_of_another_input_are_told_apart() -> None:
    """A job that an earlier process submitted may be the input's, or not."""
    left = Leftovers.of([A, X, NEW], JOBS)

    assert (left.ours, left.others) == ((A, NEW), (X,))


def test_without_an_input_all_are_its_own() -> None:
    """A journal is resumed as a whole."""
    assert Leftovers.of([A, X], None) == Leftovers((A, X))


def test_the_input_is_read_only_if_it_has_to_be() -> None:
    """What this run took from the input is known to be of it."""
    unread = iter(JOBS)

    assert Leftovers.of([NEW], unread) == Leftovers((NEW,))
    assert list(unread) == JOBS
