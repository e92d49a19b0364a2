"""Members of an account as a store keeps them."""

from apixo_async.limits.roster import Kept, Roster, gone, renewed

NOBODY = Roster(members={}, seen_at=0.0)


def kept(until: float, held: int = 2, granted: int = 3, *, has_left: bool = False) -> Kept:
    """A member that has use for ten slots."""
    return Kept(held=held, wanted=10, granted=granted, until=until, has_left=has_left)


def test_who_calls_has_its_share_and_a_lease() -> None:
    """What it said of itself is kept for those who call next."""
    roster = renewed(NOBODY, "me", held=1, wanted=4, cap=10, lease=60, now=5.0)

    assert roster.members == {"me": Kept(held=1, wanted=4, granted=4, until=65.0)}
    assert roster.seen_at == 5.0


def test_what_others_were_granted_is_theirs_until_their_lease_ends() -> None:
    """Then it goes to whoever calls, and they are forgotten."""
    other = Roster(members={"other": kept(until=100.0)}, seen_at=40.0)
    before = renewed(other, "me", held=0, wanted=10, cap=4, lease=60, now=99.0)
    after = renewed(other, "me", held=0, wanted=10, cap=4, lease=60, now=100.0)

    assert (before.members["me"].granted, after.members["me"].granted) == (1, 4)
    assert (set(before.members), set(after.members)) == ({"me", "other"}, {"me"})


def test_turns_are_short() -> None:
    """Where slots are fewer than members, each has one in turn, however long the lease."""
    had = dict[int, list[str]]()
    for turn in range(4):
        roster = Roster(members={name: kept(1e9, 0, 0) for name in "ab"}, seen_at=0.0)
        for name in "ab":
            roster = renewed(roster, name, held=0, wanted=1, cap=1, lease=60, now=turn * 10 + 1.0)
        had[turn] = [name for name in "ab" if roster.members[name].granted]

    assert all(len(who) == 1 for who in had.values())
    assert {who for (who,) in had.values()} == {"a", "b"}


def test_who_leaves_is_no_member_and_its_tasks_still_count() -> None:
    """Their slots are not given away before their lease ends, and nothing is asked of it."""
    both = Roster(members={"me": kept(100.0), "other": kept(100.0)}, seen_at=40.0)
    left = gone(both, "me", held=2, lease=60, now=50.0)
    then = renewed(left, "other", held=3, wanted=10, cap=6, lease=60, now=109.0)

    assert left.present() == {"other"}
    assert left.present(left=49.0) == {"other"}
    assert left.present(left=50.0) == frozenset()
    assert left.members["me"] == Kept(held=2, wanted=0, granted=0, until=110.0, has_left=True)
    assert then.members["other"].granted == 4


def test_who_leaves_with_nothing_leaves_nothing() -> None:
    """Its share is free at once."""
    both = Roster(members={"me": kept(100.0), "other": kept(100.0)}, seen_at=40.0)

    assert set(gone(both, "me", held=0, lease=60, now=50.0).members) == {"other"}


def test_a_clock_that_steps_back_makes_no_lease_longer() -> None:
    """Not by the step: a lease ends as much earlier, and by what was left of it at least."""
    roster = Roster(members={"other": kept(until=100.0)}, seen_at=40.0)
    stepped = roster.at(-3560.0)

    assert stepped.members["other"].until == -3500.0
    assert stepped.at(-3500.0).members == {}
    assert roster.at(39.0).members["other"].until == 99.0
