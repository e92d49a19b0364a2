"""Finding the account's real limits below the configured ones, as pure steps from value to value.

Plans differ by three orders of magnitude and the API does not tell which one a key has. Both
finders fall to what was seen to work and grow back by probing, in steps that double while it goes
well, because what fits today may be a tenth of what fits after an upgrade.
"""

from __future__ import annotations

from typing import Final

import attrs

PROBE_FIRST: Final = 5.0
PROBE_LAST: Final = 300.0
"""Seconds between attempts to raise a lowered limit: first, and at most after failures."""
PROBE_TRIAL: Final = 60.0
"""The pause after the first task probe of a row that went well. A task may have ended that we had
not seen end; once we have, the slot it gives is filled again, and that is the real probe."""
FIRST_STEP_DOUBLED: Final = 2
CAP_PATIENCE: Final = 4.0
"""A refused task probe makes the next one so much later: nothing else makes it fail again."""
CAP_HELD: Final = 120.0
"""A cap without a refusal for so long, a usual task's time, is what the account allows."""
CAP_PROOF: Final = 0.8
"""This part of the tasks beside which one was accepted did run, however late we see ends."""
CAP_NOISE: Final = 0.95
"""Within this part of a cap, refusals only show that some tasks have ended that we count."""

RATE_PROBE_FIRST: Final = 30.0
SMALLEST_RATE: Final = 10
"""The request rate of the smallest plan; little was seen to work when little was asked for."""
EXPLAINED: Final = 0.95
"""Answers below this part of the rate explain a 429: they are the limit. Else the rate is cut."""
CUT: Final = 0.75
RATE_STEP: Final = 1 / 4
"""The first step of a run of probes, as a part of the rate."""
TRIAL_REQUESTS: Final = 12
"""So many requests show whether a rate is good, if they take 5 to 60 seconds."""
VERDICT_TRIALS: Final = 3
"""So many trials show whether a fall was of use, once the minute before it is over."""
GAIN: Final = 1.25
"""A run of probes that ended so much higher than it began was no failure."""
WINDOW: Final = 60.0
"""For so long after a fall, the requests before it fill the server's minute."""
NOISE_MAX: Final = 0.4
"""Where a larger part is refused, it is not for no reason."""


def trial_seconds(rate: float) -> float:
    """How long a rate (requests a minute) has to be made use of before the next one is tried."""
    return min(max(60 * TRIAL_REQUESTS / rate, PROBE_FIRST), 60.0)


@attrs.frozen
class CapFinder:
    """Finds the account's real task limit below the configured one; every step gives a new value.

    When the account's task limit is to blame, `cap` drops to what is running. It grows back by
    probing: one step when someone waits and `probe_every` seconds have passed, the step doubling
    while it goes well, the interval growing each time it does not. `known` is what the account is
    known to allow: the smallest number of tasks beside which one was refused, or a cap that held,
    or most of the tasks beside which one was accepted.
    We count tasks that ended a moment ago, so that a larger number of ours may be less to the
    server.
    """

    limit: int
    cap: int
    step: int = 1
    probe_every: float = PROBE_FIRST
    next_probe: float = 0.0
    known: int = attrs.field(default=attrs.Factory(lambda self: self.limit, takes_self=True))
    refused_when: float = 0.0

    def refused(self, *, running: int, now: float, pause: float = 0.0) -> CapFinder:
        """The account refused a task beside `running` unfinished ones.

        `pause` is what the refusal cost in seconds: what costs more is tried less often.
        """
        cap = max(1, min(running, self.limit))
        # Less than is known to fit is no failed probe: a new limit, or a mistake.
        probe_every = PROBE_FIRST if cap < CAP_NOISE * self.known else self.probe_every
        probe_every = min(max(probe_every, 10 * pause), PROBE_LAST)
        return attrs.evolve(
            self,
            cap=cap,
            step=1,
            next_probe=now + probe_every,
            probe_every=min(probe_every * CAP_PATIENCE, PROBE_LAST),
            known=cap if self.cap >= self.limit else min(cap, self.known),
            refused_when=now,
        )

    def is_probing(self, *, running: int) -> bool:
        """Whether a task beside `running` others is one more than was seen to fit."""
        return self.cap < self.limit and running >= self.known

    def accepted(self, *, running: int, now: float) -> CapFinder:
        """A task was accepted; if it fills the cap, the last probe was right: go on faster."""
        if self.cap >= self.limit or running < self.cap:
            return self
        if running > self.cap:  # it was on its way when another one was refused
            return attrs.evolve(self, cap=min(running, self.limit))
        if self.step == 1:
            return self
        is_first = self.step == FIRST_STEP_DOUBLED
        if is_first:  # it proves little: a task may have ended that we have not seen end
            return attrs.evolve(self, next_probe=min(self.next_probe, now + PROBE_TRIAL))
        soon = min(self.next_probe, now + PROBE_FIRST)
        return attrs.evolve(self, probe_every=PROBE_FIRST, next_probe=soon)

    def knowing(self, *, running: int) -> CapFinder:
        """A task was accepted beside `running` others, most of which did run."""
        known = min(int(CAP_PROOF * running), self.limit)
        return attrs.evolve(self, known=known) if known > self.known else self

    def probed(self, *, running: int, now: float) -> CapFinder:
        """Raises the cap by one step if it is filled and it is time to try."""
        if self.cap >= self.limit or running < self.cap or now < self.next_probe:
            return self
        has_held = self.step == 1 and now >= self.refused_when + CAP_HELD
        return attrs.evolve(
            self,
            known=self.cap if has_held else self.known,
            cap=min(self.limit, self.cap + self.step),
            step=min(self.step * 2, self.limit),
            next_probe=now + self.probe_every,
        )


@attrs.frozen
class RateFinder:
    """Finds the account's real request rate below the configured one; every step is a new value.

    After a 429 that is about the rate, `rate` (requests a minute) drops to what was answered well
    in the last minute. It grows back in runs of probes: small steps, doubling while they are made
    use of and nothing is refused; the interval between runs doubles each time nothing was gained.
    `proven` is the most that was seen to work of late.
    """

    limit: int
    rate: int
    began: int = 0
    proven: int = 0
    step: int = 0
    probe_every: float = RATE_PROBE_FIRST
    next_probe: float = 0.0
    best: int = 0
    before: int = 0
    part: float = 0.0
    noise: float = 0.0

    @property
    def is_lowered(self) -> bool:
        """Whether the account was seen to allow less than is configured."""
        return self.rate < self.limit

    def refused(self, *, good: int, now: float, part: float = 0.0) -> RateFinder:
        """The account refused a request after `good` well answered ones in 60 s.

        `part` is what was refused of all requests of late, or since the minute before the last fall
        has passed; 0 as long as it has not.
        """
        if self._was_in_vain(part):
            return self._taken_back(part, now=now)
        if self.step:
            rate = min(max(good, SMALLEST_RATE, self.proven), self.rate)
            return self._back_from_probe(rate, now=now)
        rate, best = max(good, SMALLEST_RATE), 0
        if rate >= EXPLAINED * self.rate:
            rate, best = max(int(CUT * self.rate), 1), self.rate
        before, part = (self.rate, part) if part else (self.before, self.part)
        if good < SMALLEST_RATE <= rate:
            before = 0  # what came through would have been less still: it may be refused again
        fallen = self._fallen(rate, now=now, wait=self.probe_every, later=1)
        proof = WINDOW + VERDICT_TRIALS * trial_seconds(rate)
        return attrs.evolve(
            fallen,
            best=max(best, rate),
            before=before,
            part=part,
            next_probe=max(fallen.next_probe, now + proof),
        )

    def _back_from_probe(self, rate: int, *, now: float) -> RateFinder:
        """What was not refused before is kept; without a gain, the next run waits longer."""
        if rate >= GAIN * max(self.began, self.best):
            return self._fallen(rate, now=now, wait=RATE_PROBE_FIRST, later=1)
        return self._fallen(rate, now=now, wait=self.probe_every, later=2)

    def _fallen(self, rate: int, *, now: float, wait: float, later: int) -> RateFinder:
        return attrs.evolve(
            self,
            rate=rate,
            proven=rate,
            step=0,
            next_probe=now + wait,
            probe_every=min(later * wait, PROBE_LAST),
        )

    def _was_in_vain(self, part: float) -> bool:
        """Whether nearer to what was refused before than to what a limit would refuse now."""
        if not self.before or not 0 < part <= NOISE_MAX:
            return False
        by_a_limit = max(0.0, 1 - (1 - self.part) * self.before / self.rate)
        return part >= (self.part + by_a_limit) / 2

    def _taken_back(self, part: float, *, now: float) -> RateFinder:
        return attrs.evolve(
            self,
            rate=self.before,
            proven=self.rate,
            before=0,
            noise=part,
            next_probe=now + self.probe_every,
        )

    def probed(self, *, good: int, now: float, part: float = 0.0) -> RateFinder:
        """Raises the rate by one step if it is time to try; `good` answers came in 60 s.

        `part` is what was refused of all requests since the last fall.
        """
        if not self.is_lowered or now < self.next_probe:
            return self
        if self._was_in_vain(part):
            return self._taken_back(part, now=now)
        begins = not self.step or now > self.next_probe + 60
        step = max(1, int(self.rate * RATE_STEP)) if begins else 2 * self.step
        rate = min(self.limit, self.rate + step)
        return attrs.evolve(
            self,
            rate=rate,
            began=self.rate if begins else self.began,
            proven=min(max(good, self.proven), self.rate),
            before=0,
            step=step,
            next_probe=now + trial_seconds(rate),
        )

    def hurried(self, *, now: float) -> RateFinder:
        """The other limit was seen to have grown: this one may have, too."""
        if self.before:
            return self  # whether the last fall was of use is known sooner
        return attrs.evolve(self, next_probe=min(self.next_probe, now))
