"""Take the pictures of a batch that docs/ shows: `make pictures`.

The demo's batch runs on an emulator, here with some faults, so that there are problems to show. Its
board is what it draws on a terminal half-way. Its report is opened in the machine's own Chromium.
"""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from io import StringIO
from pathlib import Path

from playwright.sync_api import FloatRect, Page, sync_playwright
from rich.console import Console
from rich.text import Text

from tests import browsers

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "images"
FAULTS = {"failed_task": 0.03, "content_violation": 0.02, "submit_cut_after": 0.01}
"""As `apixo emulator --list-faults` explains them."""
WIDTH, HEIGHT = 1200, 900
MARGIN = 16
COLUMNS = 110
REDRAWN = re.compile(r"\r?\x1b\[2K(?:\x1b\[1A\x1b\[2K)*")
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
PERCENT = re.compile(r"\d+(?= %)")
NO_PLACES = """place => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(place, "");
}"""
"""Shows paths as if the page were in the directory where somebody works."""
SECOND = 1_000.0


def apixo(*arguments: str, place: Path) -> str:
    """Run a command in a directory, on a terminal of its own; return all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    for name in ("CI", "NO_COLOR"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "apixo_async.cli", *arguments]
    written = b""
    with subprocess.Popen(
        command, cwd=place, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        with suppress(OSError):  # how Linux tells that nobody writes there any more
            while part := os.read(ours, 65_536):
                written += part
    os.close(ours)
    text = written.decode()
    # 1, 3: some jobs failed, or are uncertain, as was asked for
    if process.returncode not in {0, 1, 3}:
        sys.exit(f"apixo {' '.join(arguments)}\n{text}")
    return text


def run_batch(place: Path) -> str:
    """Run the batch and write its report, both below `place`; return what a terminal got."""
    prices = ("--price", "fast=0.20", "--price", "quality=1.50")
    faults = (f"--emulator-fault={name}={rate}" for name, rate in FAULTS.items())
    shutil.copy(ROOT / "examples" / "prompts.jsonl", place)
    options = ("--emulator", "--journal", "run.db", "--save-to", "videos", *prices, *faults)
    written = apixo("batch", "prompts.jsonl", *options, place=place)
    apixo("report", "run.db", place=place)
    return written


def board_of(written: str) -> str:
    """The board as it was drawn when half of the jobs had ended, as SVG."""
    drawn = [part for part in REDRAWN.split(written) if "\ndone " in ANSI.sub("", part)]
    shares = [int(found[0]) if (found := PERCENT.search(part)) else 0 for part in drawn]
    _, board = min(zip(shares, drawn, strict=True), key=lambda one: abs(one[0] - 50))
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text.from_ansi(board.replace("\r", "").rstrip()))
    return console.export_svg(title="apixo batch prompts.jsonl --journal run.db --save-to videos/")


def take(page: Page, name: str, part: str = "") -> None:
    """Write what a page shows, or one part of it as a whole."""
    path = OUT / f"report-{name}.png"
    page.wait_for_timeout(SECOND)  # films show their first picture
    if part:
        box = page.locator(part).bounding_box()
        assert box is not None, f"there is no {part}"
        height = box["height"] + 2 * MARGIN
        clip = FloatRect(x=0, y=box["y"] - MARGIN, width=WIDTH, height=height)
        page.screenshot(path=path, full_page=True, clip=clip)
    else:
        page.screenshot(path=path)
    told(path)


def told(path: Path) -> None:
    """Print what was written."""
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1_000:.0f} kB")


def main() -> None:
    """Take all of them."""
    browser_path = browsers.browser()
    if browser_path is None:
        sys.exit("there is no browser: apt-get install chromium")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        board = board_of(run_batch(Path(place)))
        browser = playwright.chromium.launch(executable_path=browser_path, args=browsers.OFFLINE)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto((Path(place) / "report" / "index.html").as_uri())
        page.locator(".tile").first.wait_for()
        page.evaluate(NO_PLACES, f"{place}/")
        take(page, "videos")
        for part in ("course", "problems"):
            page.click(f".tabs a[href='#{part}']")
            take(page, part, f"#{part}")
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})  # one without a policy
        page.set_content(board)
        path = OUT / "board.png"
        page.locator("svg").screenshot(path=path, omit_background=True)
        told(path)
        browser.close()


if __name__ == "__main__":
    main()
