"""Chance that repeats: every draw is a hash of what it is drawn for.

A generator with a state would tie each draw to the order in which requests happen to arrive. Here
the same seed and the same subject give the same number, whoever comes first, so two runs of one
batch meet the same durations and the same faults.
"""

from __future__ import annotations

import hashlib
import json

_BITS = 53
"""As many as a float holds exactly."""


def unit(*subject: object) -> float:
    """Return a number in [0, 1) that depends on *subject* alone."""
    digest = hashlib.blake2b(repr(subject).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)


def pick(count: int, *subject: object) -> int:
    """Return one of ``0 .. count - 1``, all equally likely, depending on *subject* alone."""
    return int(unit(*subject) * count)


def identifier(*subject: object) -> str:
    """Return 32 lowercase hexadecimal digits, the shape of a real task id."""
    return hashlib.blake2b(repr(subject).encode(), digest_size=16).hexdigest()


def fingerprint(model: str, model_input: object) -> str:
    """Return what two submits share when they ask for the same video.

    The way the answer is to come (polling, callback and its URL) is left out: a callback URL often
    holds something new for every run, and the video does not depend on it.
    """
    text = json.dumps([model, model_input], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
