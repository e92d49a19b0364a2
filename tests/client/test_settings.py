from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apixo_async.client.settings import (
    DEFAULT_BASE_URL,
    KEY_VARIABLE,
    URL_VARIABLE,
    resolve_base_url,
    resolve_key,
)
from apixo_async.errors import ApixoError, AuthenticationError, InvalidSettingError

KEY = "apx_CANARY_0123456789"


@pytest.mark.parametrize(
    ("given_key", "environment", "expected"),
    [
        (KEY, {}, KEY),
        (KEY, {KEY_VARIABLE: "other"}, KEY),
        (None, {KEY_VARIABLE: KEY}, KEY),
        (f" {KEY}\n", {}, KEY),
        (None, {KEY_VARIABLE: f"{KEY}\r\n"}, KEY),
        ("a/b+c==", {}, "a/b+c=="),
    ],
    ids=["passed", "passed wins", "environment", "with spaces", "from a file", "other characters"],
)
def test_the_key_is_found(
    given_key: str | None, environment: dict[str, str], expected: str
) -> None:
    """The key that was passed counts, else the environment's; space around it is no part of it."""
    assert expected == resolve_key(given_key, environment).reveal()


@pytest.mark.parametrize(
    ("given_key", "environment"),
    [(None, {}), (None, {KEY_VARIABLE: " "}), ("", {}), ("", {KEY_VARIABLE: KEY}), ("\n", {})],
    ids=["nowhere", "blank in the environment", "empty", "empty wins", "blank"],
)
def test_without_a_key_the_error_says_where_to_put_it(
    given_key: str | None, environment: dict[str, str]
) -> None:
    """Both ways to pass a key are named; an empty one that was passed is not replaced silently."""
    with pytest.raises(AuthenticationError) as caught:
        resolve_key(given_key, environment)

    assert "api_key=" in str(caught.value)
    assert KEY_VARIABLE in str(caught.value)
    assert (caught.value.http_status, caught.value.code) == (None, None)


@pytest.mark.parametrize(
    "mark", ["\n", "\r", "\x00", " ", "\t", "é", "\u200b", "\x7f", "\ud800"], ids=ascii
)
def test_a_key_that_no_header_can_hold_is_refused_unseen(mark: str) -> None:
    """A line break in a key would be another header; the error does not show what was meant so."""
    with pytest.raises(AuthenticationError, match="cannot be sent in a header") as caught:
        resolve_key(KEY + mark + KEY, {})

    assert KEY not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_a_clean_key_or_refused(text: str) -> None:
    """Whatever is passed, what gets through is one printable ASCII word."""
    try:
        key = resolve_key(text, {}).reveal()
    except AuthenticationError:
        return

    assert key == text.strip()
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key


@pytest.mark.parametrize(
    ("base_url", "environment", "expected"),
    [
        (None, {}, "https://api.apixo.ai/api/v1"),
        ("", {}, "https://api.apixo.ai/api/v1"),
        (None, {URL_VARIABLE: " "}, "https://api.apixo.ai/api/v1"),
        ("https://api.apixo.ai", {}, "https://api.apixo.ai/api/v1"),
        ("https://api.apixo.ai/", {}, "https://api.apixo.ai/api/v1"),
        ("https://api.apixo.ai/api/v1", {}, "https://api.apixo.ai/api/v1"),
        ("https://api.apixo.ai/api/v1//", {}, "https://api.apixo.ai/api/v1"),
        (" https://api.apixo.ai\n", {}, "https://api.apixo.ai/api/v1"),
        (None, {URL_VARIABLE: "http://127.0.0.1:8000"}, "http://127.0.0.1:8000/api/v1"),
        (None, {URL_VARIABLE: "http://127.0.0.1:8000/api/v1"}, "http://127.0.0.1:8000/api/v1"),
        ("http://[::1]:8000", {URL_VARIABLE: "http://other"}, "http://[::1]:8000/api/v1"),
        ("https://gateway.example/apixo", {}, "https://gateway.example/apixo/api/v1"),
        ("https://gateway.example/apixo/api/v1/", {}, "https://gateway.example/apixo/api/v1"),
        ("https://gateway.example/@me", {}, "https://gateway.example/@me/api/v1"),
        ("HTTPS://API.APIXO.AI", {}, "HTTPS://API.APIXO.AI/api/v1"),
    ],
    ids=[
        "default",
        "empty",
        "blank environment",
        "without the path",
        "with a slash",
        "with the path",
        "with the path and slashes",
        "with spaces",
        "environment without the path",
        "environment with the path",
        "passed wins",
        "behind a prefix",
        "behind a prefix with the path",
        "behind a prefix with an at sign",
        "upper case",
    ],
)
def test_the_address_is_taken_with_and_without_its_path(
    base_url: str | None, environment: dict[str, str], expected: str
) -> None:
    """However it is written in the wild, the base ends in `/api/v1` once."""
    assert expected == resolve_base_url(base_url, environment)


@pytest.mark.parametrize(
    "base_url",
    [
        "api.apixo.ai",
        "ftp://api.apixo.ai",
        "https://",
        "https:///api/v1",
        "//api.apixo.ai",
        "file:///etc/passwd",
        "https://api.apixo.ai?",
        "https://api.apixo.ai?a=b",
        "https://api.apixo.ai/api/v1?a=b",
        "https://api.apixo.ai#",
        "https://api.apixo.ai/#top",
        "https://me@api.apixo.ai",
        "https://me:pass@api.apixo.ai",
        "https://@api.apixo.ai",
        "https://api.apixo.ai:http",
        "https://api.apixo.ai:99999",
        "https://[::1",
        "https://api apixo.ai",
        "https://api.apixo.ai/a\tb",
        "https://api.apixo.ai/\x00",
        "http",
    ],
    ids=ascii,
)
def test_what_is_no_address_is_refused(base_url: str) -> None:
    """Anything but scheme, host, port and path would send the key somewhere else, or nowhere."""
    with pytest.raises(InvalidSettingError, match=f"^base URL must be http.*{URL_VARIABLE}$"):
        resolve_base_url(base_url, {})


@given(st.text(max_size=30) | st.text(":/?#@[]ab.\\ 1", max_size=20).map("https://".__add__))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Whatever is passed gives a base to which a path can be added, or the typed error."""
    try:
        url = resolve_base_url(text, {})
    except ApixoError as error:
        assert isinstance(error, InvalidSettingError)  # noqa: PT017  # no other is raised
        return

    assert url.endswith("/api/v1")
    assert url.lower().startswith(("http://", "https://"))
    assert not set(url) & set("?# \t\n")
    assert "@" not in urlsplit(url).netloc


def test_names_and_address_are_the_documented_ones() -> None:
    """The address of every example on the pages, and the variables that other clients read."""
    assert DEFAULT_BASE_URL == "https://api.apixo.ai/api/v1"
    assert (KEY_VARIABLE, URL_VARIABLE) == ("APIXO_API_KEY", "APIXO_BASE_URL")
