"""The right to send one POST."""

from __future__ import annotations

import attrs

from apixo_async.limits.rate import Permit
from apixo_async.limits.slots import Lease


@attrs.frozen
class Turn:
    """The right to one POST, with its permit."""

    lease: Lease
    place: Lease
    post: Lease
    permit: Permit
    starting: dict[Lease, Lease] = attrs.field(repr=False)

    def end(self) -> None:
        """The POST is answered; unless a task is or may be running, its place is free again."""
        self.starting.pop(self.place, None)
        if not self.lease.is_running and self.lease.place is not None:
            self.lease.place.release()
            self.lease.place = None
        self.post.release()
