"""Results to where they are kept: streamed unseen, checked, then shown under their name."""

from apixo_async.downloads.destinations import AboutToName, Destination, PlaceError
from apixo_async.downloads.directory import Directory, is_on_disk
from apixo_async.downloads.fetching import ATTEMPTS, MOST_ATTEMPTS, Downloader
from apixo_async.downloads.files import SavedFile, file_names, file_stem, find_saved, suffix_of
from apixo_async.downloads.urls import shown_url

__all__ = [
    "ATTEMPTS",
    "MOST_ATTEMPTS",
    "AboutToName",
    "Destination",
    "Directory",
    "Downloader",
    "PlaceError",
    "SavedFile",
    "file_names",
    "file_stem",
    "find_saved",
    "is_on_disk",
    "shown_url",
    "suffix_of",
]
