"""What the stores of shared limits have in common: the settings of a member, and its name."""

from __future__ import annotations

import secrets
from typing import Final

import attrs

from apixo_async._narrow import as_number, shown
from apixo_async.errors import InvalidSettingError

NAME_MAX: Final = 200
"""Characters of a name: it is part of keys, and of what people read in the store."""
LEASE_MAX: Final = 7 * 24 * 3600.0
"""A week: results are kept for less, so nothing that was submitted is worth waiting for so long."""


@attrs.frozen(kw_only=True)
class MemberSettings:
    """Whose limits a member shares, under which name, and for how long without a sign of life."""

    account: str
    member: str
    lease: float


def member_settings(*, account: object, lease: object, member: object | None) -> MemberSettings:
    """The settings of a member, checked; without a name it gets one that nobody else has."""
    seconds = as_number(lease)
    if not 1 <= seconds <= LEASE_MAX:
        raise InvalidSettingError(
            f"lease must be from 1 to {LEASE_MAX:.0f} seconds, got {shown(lease)}"
        )
    return MemberSettings(
        account=_name("account", account),
        member=secrets.token_hex(8) if member is None else _name("member", member),
        lease=seconds,
    )


def _name(setting: str, given: object) -> str:
    """A name that every store keeps as it is and that a person can tell from others."""
    if isinstance(given, str) and 1 <= len(given) <= NAME_MAX and given.isprintable():
        return given
    raise InvalidSettingError(
        f"{setting} must be a text of 1 to {NAME_MAX} printable characters, got {shown(given)}"
    )
