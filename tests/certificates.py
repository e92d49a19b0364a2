"""A certificate that is trusted, of the right host, and out of date.

Made for these tests with `openssl x509 -req -days -1`; the one that is good is in `faults`.
"""

from __future__ import annotations

import ssl
from typing import Final

from tests.faults import server_tls

_KEY: Final = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6A+B5+BeJxcy+8TR
/5lOnzjU7VpHLZMIuFWlUg/7BnyhRANCAASGJRqektOeypo1us6I1s7CPtZPSsC0
NgSi/XCqEfY3i2zGlKGPZ7Wfi/c/UxYhFR79svJOUjUN0VFBR1hGy1+Z
-----END PRIVATE KEY-----
"""
_CERTIFICATE: Final = """\
-----BEGIN CERTIFICATE-----
MIIBiDCCAS6gAwIBAgIULJu1bPmglPi+bYtKIAijzxZy07EwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MB4XDTI2MTEyNjIwNDAzMVoXDTI2MTEyNTIw
NDAzMVowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEhiUanpLTnsqaNbrOiNbOwj7WT0rAtDYEov1wqhH2N4tsxpShj2e1n4v3
P1MWIRUe/bLyTlI1DdFRQUdYRstfmaNeMFwwGgYDVR0RBBMwEYIJbG9jYWxob3N0
hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgKEMB0GA1UdDgQW
BBQArvU5VteVaFE81xjPw+ZwnEZDtjAKBggqhkjOPQQDAgNIADBFAiBDg5CQhhTG
icKLvHmciKJZgEKyKJ5ZTilIvn5fuquEVgIhANZY414HhI6OMuH/+QguE7Ic07Zo
WTxOnRLZG2GWxNUn
-----END CERTIFICATE-----
"""


def expired_tls() -> ssl.SSLContext:
    """A server's side of TLS with that certificate."""
    return server_tls(_KEY + _CERTIFICATE)


def trusting_expired_tls() -> ssl.SSLContext:
    """A client's side of TLS that would trust it, were it not for its date."""
    return ssl.create_default_context(cadata=_CERTIFICATE)
