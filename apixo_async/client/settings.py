"""Where the client's key and address come from, and what may be wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from apixo_async._narrow import shown
from apixo_async._secret import Secret
from apixo_async.errors import AuthenticationError, InvalidSettingError

DEFAULT_BASE_URL: Final = "https://api.apixo.ai/api/v1"
KEY_VARIABLE: Final = "APIXO_API_KEY"
URL_VARIABLE: Final = "APIXO_BASE_URL"
_API_PATH: Final = "/api/v1"


def resolve_key(api_key: str | None, environment: Mapping[str, str] = os.environ) -> Secret:
    """The key that was passed, or the environment's; `AuthenticationError` if there is none."""
    # Annotations are the caller's promise, which may be broken; so below.
    key = cast("object", environment.get(KEY_VARIABLE, "") if api_key is None else api_key)
    if not isinstance(key, str):
        msg = f"the API key must be text, got {type(key).__name__}"
        raise AuthenticationError(msg)
    key = key.strip()
    if not key:
        msg = f"no API key: pass api_key= or set the environment variable {KEY_VARIABLE}"
        raise AuthenticationError(msg)
    if not key.isascii() or not key.isprintable() or " " in key:
        # Not shown: whatever it is, it was meant to be the key.
        msg = f"the API key holds characters that cannot be sent in a header; check {KEY_VARIABLE}"
        raise AuthenticationError(msg)
    return Secret(key)


def resolve_base_url(base_url: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The API's base URL, ending in `/api/v1`.

    It is accepted with and without that suffix, because `APIXO_BASE_URL` is used both ways.
    """
    given = cast("object", environment.get(URL_VARIABLE) if base_url is None else base_url) or ""
    if not isinstance(given, str):
        msg = f"base URL must be text, got {shown(given)}; see {URL_VARIABLE}"
        raise InvalidSettingError(msg)
    url = given.strip().rstrip("/") or DEFAULT_BASE_URL
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname)
        # By their marks: an empty query would swallow the path that is added below.
        has_extras = bool({"?", "#"} & set(url)) or "@" in parts.netloc
        _ = parts.port
    except ValueError:
        is_good, has_extras = False, False
    if not is_good or has_extras or not url.isprintable() or " " in url:
        # What stands before an @ may be a password.
        safe = re.sub(r"//[^/]*@", "//***@", given)
        msg = f"base URL must be http(s)://host[:port][/path], got {safe!r}; see {URL_VARIABLE}"
        raise InvalidSettingError(msg)
    return url if url.endswith(_API_PATH) else url + _API_PATH
