"""Limits that several processes hold together: what a store of them has to do."""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from apixo_async.limits.buckets import BucketSize

LEASE_SECONDS: Final = 120.0
"""What a member's slots are kept for without a sign of life: as long as a task takes by the
documents ("~2 minutes", Veo 3.1 page), because those of a process that died go on for so long."""


@attrs.frozen(kw_only=True)
class Grant:
    """What a member has of the account until its lease ends."""

    cap: int
    """Slots that it may hold; 0 if the others hold all. Fewer than it holds: it begins nothing new
    until so many have ended."""
    requests: int
    """Requests of all members so far: what grows between two grants was sent between them."""


class SharedLimits(Protocol):
    """A store in which processes of one account share its request rate and its slots.

    Each object is one member, under a name of its own. No clock but the store's decides: what is
    answered are spans. Every method raises `StoreError` when the store cannot be reached, and may
    be called again then; the connection is made anew by itself.
    """

    lease: float
    """Seconds for which a member's slots are its own after `slots` was answered."""

    async def reserve(self, requests: int, size: BucketSize) -> float:
        """Takes so many requests out of the bucket of all; seconds until they may leave.

        They are taken whether or not they leave. `size` is the bucket as this member knows it.
        """
        ...

    async def slots(self, *, held: int, wanted: int, cap: int) -> Grant:
        """Tells what this member holds and how many it has use for; renews its lease.

        `cap` is what the account has for all. What is held stays, whatever the cap.
        """
        ...

    async def leave(self, *, held: int) -> None:
        """This member goes; what it held is kept for its tasks until its lease ends."""

    async def aclose(self) -> None:
        """Closes the connection."""
