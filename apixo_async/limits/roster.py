"""Who shares the slots of an account, as a store keeps it, and how it changes when one calls."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from apixo_async.limits.shares import TURN_SECONDS, Demand, Member, grant


@attrs.frozen(kw_only=True)
class Kept(Member):
    """A member as a store keeps it. Times are the store's."""

    until: float
    """When its lease ends, and with it all that it has."""
    has_left: bool = False
    """Whether it said goodbye: then only its tasks are still here."""


@attrs.frozen(kw_only=True)
class Roster:
    """All members of an account, by name."""

    members: Mapping[str, Kept]
    seen_at: float
    """When it was changed last."""

    def at(self, now: float) -> Roster:
        """Those whose lease has not ended.

        Where the clock stepped back, leases end so much earlier, and not so much later.
        """
        back = max(0.0, self.seen_at - now)
        moved = {
            name: attrs.evolve(member, until=member.until - back) if back else member
            for name, member in self.members.items()
        }
        alive = {name: member for name, member in moved.items() if member.until > now}
        return Roster(members=alive, seen_at=now)

    def present(self, *, left: float = 0.0) -> frozenset[str]:
        """Names of those who have not left, and whose lease has so many seconds left at least."""
        after = self.seen_at + left
        return frozenset(
            name
            for name, member in self.members.items()
            if not member.has_left and member.until > after
        )


def renewed(
    roster: Roster, me: str, *, held: int, wanted: int, cap: int, lease: float, now: float
) -> Roster:
    """A member told what it holds and wants: it has its share, and a new lease."""
    here = roster.at(now)
    demand = Demand(held=held, wanted=wanted)
    granted = grant(here.members, me, demand, cap, int(now // TURN_SECONDS))
    kept = Kept(held=held, wanted=wanted, granted=granted, until=now + lease)
    return attrs.evolve(here, members={**here.members, me: kept})


def gone(roster: Roster, me: str, *, held: int, lease: float, now: float) -> Roster:
    """A member said goodbye: what it held is kept for its tasks, which began before now."""
    here = roster.at(now)
    others = {name: member for name, member in here.members.items() if name != me}
    if held > 0:
        others[me] = Kept(held=held, wanted=0, granted=0, until=now + lease, has_left=True)
    return attrs.evolve(here, members=others)
