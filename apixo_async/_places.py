"""Where results go, as it was said: a directory, or the URL of a storage. Pure; opens nothing."""

from __future__ import annotations

import os
import re
from os import PathLike
from pathlib import Path
from typing import Final, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from apixo_async._narrow import shown
from apixo_async.errors import InvalidSettingError

Place: TypeAlias = Path | str
"""A directory, or as text the URL of a storage such as `s3://bucket/prefix`."""

OBJECT_STORES: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Schemes whose URLs begin with a bucket's name, not with a host that credentials are sent to."""
_LOCAL: Final = frozenset({"file", "local"})

# Two letters at least: C:// is a drive.
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::|://)")
_CRUSHED: Final = re.compile(
    r"(s3a?|gc?s|az|abfss?|adl|memory|s?ftp|ssh|smb|https?|file|hdfs|webhdfs):[/\\][^/\\]"
)


def is_url(place: object) -> bool:
    """Whether a place is a storage's URL."""
    return isinstance(place, str) and _URL.match(place) is not None


def read_place(given: str | PathLike[str], *, name: str = "save_to") -> Place:
    """The place that was given; a `file://` URL is its directory.

    Raises `InvalidSettingError`, which does not show a password, for a URL that cannot be one.
    """
    text = cast("object", given)
    if not isinstance(text, (str, PathLike)):
        msg = f"{name} must be a directory or a URL, got {shown(text)}"
        raise InvalidSettingError(msg)
    if isinstance(text, str) and is_url(text):
        return _read_url(text, name)
    path = Path(cast("str | PathLike[str]", text))
    if _CRUSHED.match(str(path)):
        msg = (
            f"{name} {str(path)!r} looks like a URL that was made a path, "
            "which changes it: give the URL as text"
        )
        raise InvalidSettingError(msg)
    return path


def _read_url(text: str, name: str) -> Place:
    problem = _problem(text)
    if problem is not None:
        raise InvalidSettingError(f"{name} {_harmless(text)}: {problem}")
    parts = urlsplit(text)
    if parts.scheme in _LOCAL:
        return Path(unquote(parts.path))
    # One place has one spelling: journals and reports compare them.
    head, _, rest = text.partition("://")
    return f"{head.lower()}://{rest.rstrip('/')}"


_CHAIN: Final = "results cannot be written through a chain of storages: name the last one alone"
_WRITTEN_DOWN: Final = (
    "a URL is written down in journals and logs, so no password may be in it: leave it to the "
    "environment, to fsspec's configuration, or to storage_options"
)


def _problem(text: str) -> str | None:
    """Why this can be no place to save to; `None` if it can."""
    try:
        parts = urlsplit(text)
        has_password = parts.password is not None
    except ValueError:
        return "is no URL"
    scheme = parts.scheme
    is_here = parts.netloc in {"", "localhost"} and bool(parts.path)
    rules = (
        (text.isprintable() and text == text.strip(), "holds characters that no URL has"),
        ("::" not in text.partition("/")[0], _CHAIN),
        (not has_password, _WRITTEN_DOWN),
        (not {"?", "#"} & set(text), "must have no query or fragment: use storage_options"),
        (scheme not in OBJECT_STORES or parts.netloc, f"names no bucket: {scheme}://BUCKET/PREFIX"),
        (scheme not in _LOCAL or is_here, "names no directory of this machine: file:///DIRECTORY"),
    )
    return next((problem for is_kept, problem in rules if not is_kept), None)


def _harmless(text: str) -> str:
    """A URL for messages, without what may be a password or a signature."""
    return repr(re.sub(r"//[^/]*@", "//***@", re.split(r"[?#]", text)[0]))


def place_of(text: str) -> Place:
    """A place as a record has it, which was checked before it was written."""
    return text if is_url(text) else Path(text)


def joined(url: str, name: str) -> str:
    """The URL of an object of this name."""
    return f"{url}{name}" if url.endswith("/") else f"{url}/{name}"


def name_in(url: str, place: Place) -> str | None:
    """The name of an object right below a storage's URL; `None` for anything else."""
    if not isinstance(place, str):
        return None
    start = joined(url, "")
    name = place.removeprefix(start)
    return name if place.startswith(start) and name and "/" not in name else None


def file_name(place: Place) -> str:
    """The last component of a file's path or URL."""
    return place.rpartition("/")[2] if isinstance(place, str) else place.name


def scheme_of(url: str) -> str:
    """Which kind of storage a URL leads to."""
    return url.partition("://")[0]


def as_path(place: Place) -> str:
    """A place as `os.fspath` gives it."""
    return place if isinstance(place, str) else os.fspath(place)
