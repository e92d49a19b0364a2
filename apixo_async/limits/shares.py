"""Who of several processes may hold how many of an account's slots, as pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

TURN_SECONDS: Final = 10.0
"""What a store divides its clock by to get `turn`: longer than members take to ask again, so that
whose turn it is hears of it, and short beside a task."""
_GOLDEN: Final = 0x9E3779B9
_BITS: Final = 32
"""Of the golden ratio, as in Fibonacci hashing: its multiples fill a circle evenly, and tasks of no
length keep step with them, as they may with turns that go round one by one."""


@attrs.frozen(kw_only=True)
class Demand:
    """What one member holds and has use for."""

    held: int
    """Slots that it holds: they stay, whatever is decided."""
    wanted: int
    """Slots that it has use for, those included; fewer count as what it holds."""


@attrs.frozen(kw_only=True)
class Member(Demand):
    """A member whose lease has not ended, as it said of itself, and what it was told then."""

    granted: int
    """The cap it was given when it last asked: so many it may hold by now."""

    @property
    def taken(self) -> int:
        """Slots that nobody else may have."""
        return max(self.held, self.granted)


def shares(members: Mapping[str, Demand], cap: int, turn: int) -> dict[str, int]:
    """What is each member's of `cap` slots: max-min fair, and never more than `cap` in all.

    Nobody gets more than it wants. Who wants less than an even part gets all it wants, the others
    an even part of the rest, and what cannot be divided moves with `turn`, a whole number that
    grows with time: where slots are fewer than members, everybody has one now and then.
    """
    wants = {name: max(demand.wanted, demand.held) for name, demand in members.items()}
    modest, greedy = dict[str, int](), sorted(wants, key=lambda name: (-wants[name], name))
    left = max(cap, 0)
    while greedy and wants[greedy[-1]] <= left // len(greedy):
        name = greedy.pop()
        modest[name] = wants[name]
        left -= wants[name]
    if not greedy:
        return modest
    even, rest = divmod(left, len(greedy))
    first = (turn * _GOLDEN % 2**_BITS) * len(greedy) >> _BITS
    return modest | {
        name: even + ((place - first) % len(greedy) < rest)
        for place, name in enumerate(sorted(greedy))
    }


def grant(members: Mapping[str, Member], me: str, demand: Demand, cap: int, turn: int) -> int:
    """The cap that `me` is told now: its share, as far as the others leave room for it.

    `members` are those whose leases have not ended; `me` may be among them, as of earlier. Others
    keep what they were granted until they ask again, and what they hold for as long as they hold
    it. So over any order of calls nobody's grant takes more than `cap` in all, if each member holds
    no more than it was granted, and no more than it says from when it asks until it is answered.
    """
    others = {name: member for name, member in members.items() if name != me}
    room = cap - sum(member.taken for member in others.values())
    share = shares({**others, me: demand}, cap, turn)[me]
    return max(0, min(share, room))
