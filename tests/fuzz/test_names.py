from __future__ import annotations

import os
import re
from pathlib import PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from hypothesis import strategies as st
from yarl import URL

from apixo_async.downloads import file_names, file_stem, shown_url, suffix_of
from apixo_async.downloads.claims import SLOTS, mark
from apixo_async.downloads.hosts import RefusedHostError
from apixo_async.downloads.urls import InsecureRedirectError, read_redirect, read_url
from tests.fuzz.fuzzed import fuzzed
from tests.fuzz.hostile import Choices, damaged, scripts

NASTY = [
    "a",
    "../",
    "..\\",
    "%2e%2e/",
    "\0",
    "CON",
    "com1.",
    "LPT\u00b9",
    "nul.tar.gz",
    "\u202egpj.exe",
    "\ud800",
    ".",
    " ",
    "~2",
    "-2",
    "x" * 101,
    "\u00e9" * 60,
    "C:",
    ":stream",
    "\u0130",
    "\uff0e\uff0e\uff0f",
]
keys = st.lists(st.sampled_from(NASTY), max_size=4).map("".join) | st.text(max_size=12)
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
NAME_MAX = 255


def check_name(name: str) -> None:
    """A name that is one visible file of the directory, on every system."""
    assert len(os.fsencode(name)) <= NAME_MAX
    assert PurePosixPath(name).parts == PureWindowsPath(name).parts == (name,)
    assert name.isascii()
    assert not set(name) & set('\\/:*?"<>| ')
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert not RESERVED.fullmatch(name.partition(".")[0])


@fuzzed(keys, st.integers(1, 1_000), slow=3_500)
def test_a_key_is_a_name_inside_the_directory(key: str, count: int) -> None:
    """All names that a download of a key may take are names, never empty and always the same."""
    stems = file_names(key, count)

    assert len(set(stems.values())) == count
    for stem in (stems[0], stems[count - 1]):
        for suffix in (".mp4", ".webm", ".bin", ".part", ".0123abcd.part"):
            check_name(f"{stem}{mark(SLOTS)}{suffix}")
    assert file_names(key, count) == stems


@fuzzed(keys, keys, slow=3_000)
def test_other_keys_have_other_names(one: str, other: str) -> None:
    """Two keys share a name only where one is the other."""
    assert (file_stem(one) == file_stem(other)) == (one == other)


# URLs


SHAPES = [
    b"https://files.example/a/b.mp4?sig=%2F..%2F&x=1",
    b"http://127.0.0.1:8080/a.mp4",
    b"https://[::1]/..%2f..%2fetc/passwd",
    b"https://user:password@files.example:444/a",
    "https://b\u00fccher.example/\u00e9.mp4".encode(),
    b"//files.example/a",
    b"file:///etc/passwd",
    b"https:files.example",
    b"https://%66iles.example/",
    b"https://files.example\\@other.example/",
    b"https://[v1.a]/",
    b"javascript:alert(1)",
]


def url_of(script: bytes) -> str:
    """A URL with something done to it."""
    choices = Choices(script)
    text = choices.of(SHAPES)
    for _ in range(choices.below(3)):
        text = damaged(text, choices)
    return text.decode("utf-8", choices.of(["replace", "surrogateescape"]))


urls = scripts.map(url_of) | st.text(max_size=20).map("https://".__add__)


@fuzzed(urls, st.booleans(), slow=3_500)
def test_a_url_is_a_web_address_or_refused(text: str, is_private: bool) -> None:
    """What a result is fetched from has a host, and by default no password; else it is refused."""
    try:
        url = read_url(text, allow_private=is_private)
    except (ValueError, RefusedHostError):
        return

    assert url.scheme in {"http", "https"}
    assert url.host
    assert is_private or (url.user, url.password) == (None, None)


@fuzzed(urls, st.sampled_from(["http", "https"]), slow=2_500)
def test_a_redirect_leads_to_a_web_address_or_nowhere(place: str, scheme: str) -> None:
    """Whatever a server says, what began with TLS goes on with it."""
    start = URL(f"{scheme}://files.example/a")
    try:
        url = read_redirect(start, place, allow_private=False)
    except (ValueError, RefusedHostError, InsecureRedirectError):
        return

    assert url.scheme == "https"
    assert url.host


@fuzzed(urls, slow=2_000)
def test_a_url_is_shown_without_its_secrets(text: str) -> None:
    """Scheme, host and path and no more: no query, no password, nothing that a terminal obeys."""
    shown = shown_url(text)

    assert shown.isprintable()
    if shown != "a malformed URL":
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        assert len(shown) == len(f"{parts.scheme}://{host}{parts.path}")
        assert "@" not in shown[: -len(parts.path) or None]


@fuzzed(st.binary(max_size=40), st.text(max_size=10), slow=2_500)
def test_the_suffix_is_one_of_a_few(head: bytes, content_type: str) -> None:
    """A server has no say in how a file is called; a page is no file."""
    suffix = suffix_of(head, content_type)

    assert suffix is None or re.fullmatch(r"\.[a-z0-9]{3,4}", suffix)
