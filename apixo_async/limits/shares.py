"""Who of several processes may hold how many of an account's slots, as pure decisions."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import takewhile
from typing import Final

import attrs

TURN_SECONDS: Final = 10.0
"""What a store divides its clock by to get `turn`: longer than members take to ask again, so that
whose turn it is hears of it, and short beside a task."""


_BITS: Final = 32
_GOLDEN: Final = 0x9E3779B9
"""Of the golden ratio, as in Fibonacci hashing: its multiples fill a circle evenly, so that nobody
waits for long."""
_BLOCK: Final = 8
"""After so many turns they begin somewhere else: tasks of some length would keep step with them."""


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
    grows with time. Where slots are fewer than members, those that hold none come first, so that
    everybody has one in turn. The parts are in the order in which they are to be met.
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
    first = _place(turn) * len(greedy) >> _BITS
    order = sorted(greedy)
    order = order[first:] + order[:first]
    if not even:  # who has none goes before who has one, and gets it when that one ends
        order.sort(key=lambda name: members[name].held > 0)
    return modest | {name: even + (place < rest) for place, name in enumerate(order)}


def _place(turn: int) -> int:
    """Where on a circle of `2**_BITS` it is who begins; alike for all who ask in this turn."""
    anew = random.Random(turn // _BLOCK)  # noqa: S311  # nobody has to guess it
    place: int = (turn * _GOLDEN + anew.getrandbits(_BITS)) % (1 << _BITS)
    return place


def grant(members: Mapping[str, Member], me: str, demand: Demand, cap: int, turn: int) -> int:
    """The cap that `me` is told now: its share, as far as the others leave room for it.

    `members` are those whose leases have not ended; `me` may be among them, as of earlier. Others
    keep what they were granted until they ask again, and what they hold for as long as they hold
    it. So over any order of calls nobody's grant takes more than `cap` in all, if each member holds
    no more than it was granted, and no more than it says from when it asks until it is answered.
    """
    others = {name: member for name, member in members.items() if name != me}
    before = members.get(me)
    if before is not None:  # who has just given its slot back is not the first to have one
        demand = attrs.evolve(demand, held=max(demand.held, min(before.held, demand.wanted)))
    parts = shares({**others, me: demand}, cap, turn)
    room = cap - sum(member.taken for member in others.values())
    if _is_scarce(parts, others, me):
        first = takewhile(lambda name: name != me, parts)
        room -= sum(max(0, parts[name] - others[name].taken) for name in first)
    return max(0, min(parts[me], room))


def _is_scarce(parts: Mapping[str, int], others: Mapping[str, Member], me: str) -> bool:
    """Whether somebody who wants a slot has none: then each is kept for whose turn it is."""
    return not parts[me] or any(not parts[name] and one.wanted for name, one in others.items())
