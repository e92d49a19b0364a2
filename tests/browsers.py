"""The browser of this machine that reports are opened in; none is fetched."""

import shutil
from typing import Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OFFLINE: Final = ("--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND")
"""What a browser opens by itself leads nowhere."""


def browser() -> str | None:
    """Where the first of them is."""
    return next(filter(None, map(shutil.which, NAMES)), None)
