"""Results to files: streamed beside their name, checked, then renamed."""

from apixo_async.downloads.claims import clear_leftovers
from apixo_async.downloads.fetching import ATTEMPTS, MOST_ATTEMPTS, Downloader
from apixo_async.downloads.files import SavedFile, file_names, file_stem, find_saved, suffix_of
from apixo_async.downloads.parts import AboutToName
from apixo_async.downloads.urls import shown_url

__all__ = [
    "ATTEMPTS",
    "MOST_ATTEMPTS",
    "AboutToName",
    "Downloader",
    "SavedFile",
    "clear_leftovers",
    "file_names",
    "file_stem",
    "find_saved",
    "shown_url",
    "suffix_of",
]
