"""Results in a storage that fsspec knows. Imported only where results go to a URL.

fsspec's own way for programs that are not written for its asynchronous half: its blocking calls,
in threads. Filesystems that are asynchronous themselves (S3, Google, Azure) then work on a loop of
fsspec's, in a thread of its own, and take many calls at a time; of all others nobody says that they
may be used by two threads at once, so they get one call after the other. `asynchronous=True` is
for whoever reads and writes whole objects: it has no file that is written piece by piece.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Final, NoReturn, TypeVar, cast

import attrs

from apixo_async._places import OBJECT_STORES, joined, name_in, scheme_of
from apixo_async._secret import MASK
from apixo_async.downloads.destinations import NameTakenError, PlaceError
from apixo_async.downloads.directory import is_on_disk
from apixo_async.downloads.files import SavedFile
from apixo_async.downloads.filesystems import BLOCK, UNTOLD, Opened
from apixo_async.downloads.threads import in_thread
from apixo_async.downloads.uploads import Bound, Moved, Upload
from apixo_async.errors import InvalidSettingError

T = TypeVar("T")

THREADS: Final = 16
"""As many as downloads of one client go on at once: a thread holds one call at a time."""
TEXT_MAX: Final = 300
PARTS: Final = frozenset({"s3", "s3a", "gs", "gcs"})
"""Schemes whose files are uploads in parts, see `uploads.Bound`."""

_HARMLESS: Final = re.compile(
    r"endpoint(_url)?|region(_name)?|host|port|project|profile(_name)?|bucket|location|protocol"
)
"""Options whose values may be seen in messages; all others may be secrets."""
_QUERY: Final = re.compile(r"(\w://[^\s?'\"]+)\?[^\s'\"]+")
_USER: Final = re.compile(r"//[^/@\s]*@")


class StorageError(PlaceError):
    """A storage refused; the text is its reason."""

    word: ClassVar[str] = "storage"


class Storage:
    """The place of a URL. `options` are fsspec's for this kind of storage; they are never shown.

    Nothing is opened before it is needed. Connections end with this object.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.place = url
        self._options = dict(options or {})
        self._opening = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._opened: Opened | None = None

    def close(self) -> None:
        """Ends the threads. An upload that still has to clean up gets some for that."""
        threads = self.__dict__.pop("_threads", None)
        if threads is not None:
            threads.shutdown(wait=False)

    def __repr__(self) -> str:
        return f"<Storage {self.place}>"

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="apixo-storage")

    # Calls

    async def run(self, work: Callable[[Opened], T]) -> T:
        """What `work` returns, done in a thread; whatever is wrong there is a `StorageError`."""
        try:
            return await in_thread(lambda: self.do(work), self._threads)
        except (InvalidSettingError, NameTakenError):
            raise
        except Exception as error:  # noqa: BLE001  # each storage has errors of its own
            reason = self.told(error)
        raise StorageError(reason)

    def do(self, work: Callable[[Opened], T]) -> T:
        """The same at once, and with the storage's own errors; blocks."""
        opened = self._open()
        if getattr(opened.filesystem, "async_impl", False):
            return work(opened)
        with self._one_at_a_time:
            return work(opened)

    def _open(self) -> Opened:
        with self._opening:
            if self._opened is None:
                filesystem, directory = self._connect()
                if scheme_of(self.place) not in OBJECT_STORES and directory.strip("/"):
                    filesystem.makedirs(directory, exist_ok=True)
                self._opened = Opened(filesystem, directory)
            return self._opened

    def _connect(self) -> tuple[Any, str]:
        """Raises `InvalidSettingError` where a package is missing, else what the storage raises."""
        try:
            fsspec = cast("Any", import_module("fsspec"))  # an extra, slow to import
        except ImportError:
            self._refuse("fsspec is not installed: pip install 'apixo-async[storage]'")
        scheme = scheme_of(self.place)
        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            self._refuse(f"fsspec knows no storage called {scheme}")
        except ImportError as error:
            known = import_module("fsspec.registry").known_implementations.get(scheme, {})
            package = str(known.get("class", "fsspec")).partition(".")[0]
            hint = "" if package == "fsspec" else f": pip install {package}"
            self._refuse(f"a package is missing ({self.told(error)}){hint}")
        # An instance of our own: a shared one would keep these options, and its listings.
        options = {**self._options, "skip_instance_cache": True}
        return cast("tuple[Any, str]", fsspec.url_to_fs(self.place, **options))

    def _refuse(self, reason: str) -> NoReturn:
        raise InvalidSettingError(f"cannot save to {self.place}: {reason}") from None

    def told(self, error: BaseException) -> str:
        """An error for messages: one line, without anything that may be a secret."""
        text = " ".join(str(error).split()) or "no reason given"
        for secret in _secrets(self._options):
            text = text.replace(secret, MASK)
        text = _USER.sub(f"//{MASK}@", _QUERY.sub(r"\1", text))
        text = "".join(mark if mark.isprintable() else "?" for mark in text[:TEXT_MAX])
        advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
        return f"{type(error).__name__}: {text}{advice}"

    # A destination

    async def check(self) -> None:
        """Begins to write a file and throws it away; raises `InvalidSettingError`."""
        try:
            await self.run(self._probe)
        except StorageError as error:
            reason = str(error)
        else:
            return
        self._refuse(reason)

    def check_now(self) -> None:
        """The same, blocking."""
        try:
            self.do(self._probe)
        except InvalidSettingError:
            raise
        except Exception as error:  # noqa: BLE001  # as in `run`
            reason = self.told(error)
        else:
            return
        self._refuse(reason)

    def _probe(self, opened: Opened) -> None:
        name = opened.temporary("apixo-check")
        opened.size(name)  # whether a name is free must be seen, too
        if self._takes_parts:
            file = opened.uncommitted(name, overwrite=True, block=BLOCK)
            try:
                file.write(b"\0")
                file.close()
            finally:
                file.closed = True
                file.discard()
            return
        file = opened.new(name, block=BLOCK)
        file.write(b"\0")
        file.close()
        opened.remove(name)

    @property
    def _takes_parts(self) -> bool:
        return scheme_of(self.place) in PARTS

    def part(self, stem: str, *, overwrite: bool) -> Upload:
        """A new upload."""
        kind = Bound if self._takes_parts else Moved
        return kind(self, stem, overwrite=overwrite)

    async def has(self, file: SavedFile) -> bool:
        """Whether it is there with its size; what is in another storage is believed to be."""
        name = name_in(self.place, file.place)
        if name is None:
            return is_on_disk(file)
        size = await self.run(lambda opened: opened.size(name))
        return size in {file.size, UNTOLD}

    async def find(self, told: SavedFile, stem: str) -> SavedFile | None:
        """Looks under the very name: it was recorded before the upload was completed."""
        del stem
        name = name_in(self.place, told.place)
        if name is None:
            return None
        is_it = await self.run(lambda opened: opened.is_this(name, told.size, told.sha256))
        return attrs.evolve(told, place=joined(self.place, name)) if is_it else None


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """All texts in options that may be secrets, the longest first."""
    found = {text for text in _texts(options) if len(text) >= _SECRET_MIN}
    yield from sorted(found, key=len, reverse=True)


_SECRET_MIN: Final = 4


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in cast("Mapping[object, object]", value).items():
            if not _HARMLESS.fullmatch(str(name)):
                yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in cast("list[object]", value):
            yield from _texts(inner)


_ADVICE: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (PermissionError, "; may these credentials write, read and list there?"),
    (FileNotFoundError, "; is there such a bucket or host?"),
)
"""What to look at, by the kind of error that fsspec's filesystems have in common."""
