"""Labelled points at which tests let a process die as if by power loss; off in normal use.

`APIXO_TEST_KILL_AT=K4` kills the process the first time that it comes to K4, `K4:3` the third time.
The labels are explained in `docs/journal.md`.
"""

from __future__ import annotations

import os
import signal
from typing import Final

LABELS: Final = tuple(f"K{number}" for number in range(11))

_label, _, _count = os.environ.get("APIXO_TEST_KILL_AT", "").partition(":")
_left = int(_count or 1)


def reached(label: str) -> None:
    """Dies here, at once and without any cleaning up, if this is the point."""
    if label == _label:
        _die_if_due()


def _die_if_due() -> None:
    global _left  # noqa: PLW0603  # one process dies once
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
