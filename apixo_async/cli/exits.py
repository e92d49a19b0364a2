"""What the exit codes mean; a pure function decides on a batch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OK: Final = 0
FAILED: Final = 1
"""Something failed, timed out, was not started or could not be saved."""
USAGE: Final = 2
"""Wrong usage or input; nothing was sent."""
UNCERTAIN: Final = 3
"""A task may exist and be billed, and nobody can say."""
STOPPED: Final = 4
"""The key was refused or the balance is empty."""
SIGNAL_BASE: Final = 128
"""Ended by a signal: this plus its number, as shells count."""

_STOPPING: Final = frozenset({"key", "balance"})
_GOOD: Final = "succeeded"


def batch_exit(
    counts: Mapping[str, int],
    *,
    not_saved: int = 0,
    stopped: str | None = None,
    signal: int | None = None,
) -> int:
    """The exit code of a batch: of all that apply, the highest.

    `counts` are jobs by status, `stopped` is the reason why the batch ended early, `signal` the
    number of the signal that ended it.
    """
    codes = [OK]
    if not_saved or any(number for status, number in counts.items() if status != _GOOD):
        codes.append(FAILED)
    if counts.get("uncertain"):
        codes.append(UNCERTAIN)
    if stopped is not None:
        codes.append(STOPPED if stopped in _STOPPING else FAILED)
    if signal is not None:
        codes.append(SIGNAL_BASE + signal)
    return max(codes)
