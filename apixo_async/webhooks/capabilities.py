"""Callback URLs that only we can have made: which submit they are for, and a MAC of that.

The API signs nothing (webhook page), so the URL itself is what a sender has to know. It is
`<public_url>/<job>.<attempt>.<mac>`: in the path, because queries are dropped or logged by some.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Final

import attrs

from apixo_async._narrow import as_sequence
from apixo_async.errors import InvalidSettingError

SECRET_MIN: Final = 16
"""Bytes; whoever can guess the secret can forge callbacks."""
_MAC_BYTES: Final = 16
_KEY_ID_BYTES: Final = 3
_FORM: Final = re.compile(
    r"(?P<job>[A-Za-z0-9_-]{1,64})\.(?P<attempt>[1-9][0-9]{0,8})\.(?P<mac>[A-Za-z0-9_-]{26})"
)


@attrs.frozen
class Slip:
    """What a callback URL is for: one attempt, from 1, to submit one job."""

    job: str
    attempt: int

    @property
    def has_journal(self) -> bool:
        """Whether a journal keeps what becomes of this job: its name comes first, and a dash."""
        return "-" in self.job


class Signer:
    """Makes and reads the last part of callback URLs.

    The first secret signs, all are accepted: a new one is put before the old one, which goes when
    no task of its time runs any more. The first four characters of a MAC name its secret.
    """

    def __init__(self, secret: str | bytes | Sequence[str | bytes]) -> None:
        several = None if isinstance(secret, bytes) else as_sequence(secret)
        secrets = [_checked(one) for one in ([secret] if several is None else several)]
        if not secrets:
            raise InvalidSettingError("secret must hold at least one secret, got none")
        self._keys = {_key_id(key): key for key in reversed(secrets)}
        self._first = _key_id(secrets[0])

    def token(self, slip: Slip) -> str:
        """The last part of the URL for this submit."""
        mac = self._mac(self._first, slip.job, str(slip.attempt))
        return f"{slip.job}.{slip.attempt}.{mac}"

    def read(self, token: str) -> Slip | None:
        """What the URL is for, or `None` if it was not made here."""
        found = _FORM.fullmatch(token)
        if found is None:
            return None
        job, attempt, mac = found["job"], found["attempt"], found["mac"]
        key_id = mac[:4] if mac[:4] in self._keys else self._first
        if not hmac.compare_digest(mac.encode(), self._mac(key_id, job, attempt).encode()):
            return None
        return Slip(job, int(attempt))

    def _mac(self, key_id: str, job: str, attempt: str) -> str:
        text = f"apixo callback\n{job}\n{attempt}".encode()
        digest = hmac.digest(self._keys[key_id], text, hashlib.sha256)
        return key_id + _base64(digest[:_MAC_BYTES])

    def __repr__(self) -> str:
        return f"<Signer of {len(self._keys)} secrets>"


def _checked(secret: object) -> bytes:
    try:
        key = secret.encode() if isinstance(secret, str) else secret
    except UnicodeEncodeError:  # half a character, as what is no UTF-8 gives in the environment
        key = None
    if not isinstance(key, bytes) or len(key) < SECRET_MIN:
        # Not shown: it may be most of a good one.
        msg = (
            f"secret must be a text or bytes of at least {SECRET_MIN} bytes, as from "
            "secrets.token_urlsafe(), or several of them, the newest first"
        )
        raise InvalidSettingError(msg)
    return key


def _key_id(key: bytes) -> str:
    return _base64(hmac.digest(key, b"apixo callback key", hashlib.sha256)[:_KEY_ID_BYTES])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
