"""Who may hold how many slots of one account: tables, and what holds whatever happens."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apixo_async.limits.shares import Demand, Member, grant, shares

WANTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 30), min_size=1)


def wanting(**wants: int) -> dict[str, Demand]:
    """Members that hold nothing and want so many."""
    return {name: Demand(held=0, wanted=wanted) for name, wanted in wants.items()}


@pytest.mark.parametrize(
    ("wants", "cap", "turn", "expected"),
    [
        ({}, 10, 0, {}),
        ({"a": 4}, 10, 0, {"a": 4}),
        ({"a": 40}, 10, 0, {"a": 10}),
        ({"a": 40, "b": 40}, 10, 0, {"a": 5, "b": 5}),
        ({"a": 2, "b": 40}, 10, 0, {"a": 2, "b": 8}),
        ({"a": 2, "b": 3, "c": 40, "d": 40}, 15, 0, {"a": 2, "b": 3, "c": 5, "d": 5}),
        ({"a": 0, "b": 40, "c": 40}, 11, 0, {"a": 0, "b": 5, "c": 6}),
        ({"a": 0, "b": 40, "c": 40}, 11, 1, {"a": 0, "b": 6, "c": 5}),
        ({"a": 5, "b": 5, "c": 5}, 2, 0, {"a": 1, "b": 0, "c": 1}),
        ({"a": 5, "b": 5, "c": 5}, 2, 1, {"a": 0, "b": 1, "c": 1}),
        ({"a": 5, "b": 5, "c": 5}, 2, 2, {"a": 1, "b": 1, "c": 0}),
        ({"a": 5, "b": 5, "c": 5}, 2, 5, {"a": 1, "b": 0, "c": 1}),
        ({"a": 5, "b": 5}, 0, 7, {"a": 0, "b": 0}),
        ({"a": 5, "b": 5}, -3, 7, {"a": 0, "b": 0}),
    ],
)
def test_slots_are_shared(
    wants: dict[str, int], cap: int, turn: int, expected: dict[str, int]
) -> None:
    """Small wants are met, the rest is even, and what cannot be divided moves."""
    assert shares(wanting(**wants), cap, turn) == expected


def test_what_is_held_is_wanted() -> None:
    """A member that holds more than it says it wants has use for what it holds."""
    members = {"a": Demand(held=8, wanted=0), "b": Demand(held=0, wanted=9)}

    assert shares(members, 10, 0) == {"a": 5, "b": 5}


@given(WANTS, st.integers(0, 40), st.integers(0, 10**6))
def test_shares_are_max_min_fair(wants: dict[str, int], cap: int, turn: int) -> None:
    """All that is wanted or there is given, and nobody with an unmet want has less than another.

    But for the one slot that cannot be divided.
    """
    parts = shares(wanting(**wants), cap, turn)

    assert sum(parts.values()) == min(cap, sum(wants.values()))
    for name, part in parts.items():
        assert 0 <= part <= wants[name]
        if part < wants[name]:
            assert part >= max(parts.values()) - 1


@given(WANTS, st.integers(1, 40), st.integers(0, 10**9), st.integers(1, 40))
@example({"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, 1, 0, 34)
def test_nobody_starves(wants: dict[str, int], cap: int, turn: int, step: int) -> None:
    """Whoever wants a slot is given one soon, also where slots come free at every so many turns."""
    members = wanting(**wants)
    given = [shares(members, cap, turn + step * later) for later in range(500)]

    for name, wanted in wants.items():
        assert wanted == 0 or max(parts[name] for parts in given) > 0


@pytest.mark.parametrize(
    ("others", "demand", "cap", "expected"),
    [
        ({}, Demand(held=0, wanted=3), 10, 3),
        ({}, Demand(held=0, wanted=30), 10, 10),
        # The other one holds all: nothing until it has ended some, and then only those.
        ({"a": Member(held=10, wanted=20, granted=10)}, Demand(held=0, wanted=9), 10, 0),
        ({"a": Member(held=7, wanted=20, granted=5)}, Demand(held=0, wanted=9), 10, 3),
        # What it was granted it may hold by now, whether or not it had use for it.
        ({"a": Member(held=0, wanted=0, granted=6)}, Demand(held=0, wanted=9), 10, 4),
        ({"a": Member(held=0, wanted=0, granted=0)}, Demand(held=0, wanted=9), 10, 9),
        # More is held than the cap allows: what is held stays, and nobody begins anything.
        ({"a": Member(held=9, wanted=9, granted=9)}, Demand(held=9, wanted=9), 10, 1),
        ({"a": Member(held=30, wanted=30, granted=0)}, Demand(held=2, wanted=9), 10, 0),
        # One that left while its tasks run wants nothing more.
        ({"a": Member(held=4, wanted=4, granted=0)}, Demand(held=0, wanted=9), 10, 6),
        # An own entry of earlier does not count against what is asked for now.
        ({"me": Member(held=5, wanted=9, granted=10)}, Demand(held=5, wanted=8), 10, 8),
    ],
)
def test_a_grant_is_the_share_that_the_others_leave_room_for(
    others: dict[str, Member], demand: Demand, cap: int, expected: int
) -> None:
    """A share that others still hold is granted once they have given it up."""
    assert grant(others, "me", demand, cap, 0) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3)
        ),
        max_size=60,
    ),
    st.integers(0, 12),
)
def test_no_order_of_calls_grants_more_than_there_is(
    calls: list[tuple[str, int, int, int]], cap: int
) -> None:
    """Members hold what they like of what they were granted, and want what they like."""
    members: dict[str, Member] = {}
    for name, holds, wanted, turn in calls:
        before = members.get(name)
        held = min(holds, 0 if before is None else before.taken)
        granted = grant(members, name, Demand(held=held, wanted=wanted), cap, turn)
        members[name] = Member(held=held, wanted=wanted, granted=granted)
        assert sum(member.taken for member in members.values()) <= cap


@given(WANTS, st.integers(1, 12), st.integers(0, 10**6))
def test_all_that_is_wanted_is_granted_soon(wants: dict[str, int], cap: int, turn: int) -> None:
    """Where nobody holds anything yet, one call of each grants everything that is there."""
    members: dict[str, Member] = {}
    for _ in range(2):
        for name, wanted in wants.items():
            granted = grant(members, name, Demand(held=0, wanted=wanted), cap, turn)
            members[name] = Member(held=0, wanted=wanted, granted=granted)

    assert sum(member.granted for member in members.values()) == min(cap, sum(wants.values()))
