"""A clock that stands still until the test moves it, for emulators of this process."""

import attrs
import pytest

from apixo_async.emulator.clock import Clock


@attrs.define
class Hand:
    """What an emulator's clock goes by."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def move_by_hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    """Moves the clocks of all emulators that are started from now on."""
    hand, begin = Hand(), Clock.start
    monkeypatch.setattr(Clock, "start", lambda speed, _: begin(speed, hand))
    return hand
