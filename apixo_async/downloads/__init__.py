"""Results to files: streamed beside their name, checked, then renamed."""

from apixo_async.downloads.fetching import ATTEMPTS, Downloader, shown_url
from apixo_async.downloads.files import SavedFile, file_names, file_stem, suffix_of

__all__ = [
    "ATTEMPTS",
    "Downloader",
    "SavedFile",
    "file_names",
    "file_stem",
    "shown_url",
    "suffix_of",
]
