"""The page in a real browser, opened from disk as people do."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from apixo_async.batch.report import write_report
from tests import browsers
from tests.batch.report.journals import PROMPT, Batch, make, whole

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FOUND = browsers.browser()

pytestmark = [
    pytest.mark.skipif(FOUND is None, reason="there is no browser: apt-get install chromium"),
    pytest.mark.slow,
]

TWO_FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
HURT = "window.hurt = 1"
HOSTILE = {
    "script": f"</script><script>{HURT}</script>",
    "comment": f"<!--<script>{HURT}</script>",
    "attribute": f"\"><img src=x onerror='{HURT}'>",
    "quotes": "'\"`\\ &amp; &lt; {{ 7 * 7 }} ${7 * 7}",
    "bidi": "\u202egnp.exe\u2066 \u200f left to right",
    "lines": "one\u2028two\u2029three\r\nfour\x00five\x1b[2Jsix",
    "huge": "x" * 10_000,
    "half": "half a character \ud83d",
}
"""Prompts by key that would do something, if anything did not escape them."""


@attrs.define
class Watched:
    """A page, and what it did that nobody asked for."""

    page: Page
    complaints: list[str] = attrs.field(factory=list[str])
    requests: list[str] = attrs.field(factory=list[str])

    @classmethod
    def open(cls, page: Page, path: Path, *, tiles: bool = True) -> Watched:
        """Opens it from disk; every request, message and error is noted."""
        watched = cls(page)
        page.on("console", lambda message: watched.complaints.append(message.text))
        page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        page.on("dialog", lambda dialog: watched.complaints.append(dialog.message))
        page.on("request", lambda request: watched.requests.append(request.url))
        page.goto(path.as_uri())
        if tiles:
            page.locator(".tile").first.wait_for()
        return watched

    def go(self, part: str) -> None:
        """Turns to another part of the page."""
        self.page.click(f".tabs a[href='#{part}']")

    def tile(self, key: str) -> Locator:
        """The tile of a job, which must be in sight."""
        return self.page.locator(".tile").filter(has=self.page.get_by_text(key, exact=True))

    def detail(self, key: str) -> Locator:
        """All that is shown of a job, found by its key."""
        self.page.fill("#search", key)
        self.tile(key).locator(".about").click()
        return self.page.locator("#detail")

    def check(self) -> None:
        """It complained of nothing, and asked the disk alone."""
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("file:")] == []


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about a usual batch, its videos saved."""
    place = tmp_path_factory.mktemp("usual")
    journal = make(place / "run.db", whole, videos=place / "videos")
    return write_report(journal, place / "report")


@pytest.fixture(scope="module")
def browser(report: Path) -> Iterator[Browser]:
    """One browser for all; what it opens by itself leads nowhere."""
    expect.set_options(timeout=40_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=browsers.OFFLINE)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window of its own."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(40_000)
    yield page
    page.close()


def test_it_shows_every_job_and_the_head(report: Path, page: Page) -> None:
    """Counts, cost, and a tile for each job, without a complaint and without a network."""
    page.set_viewport_size({"width": 1200, "height": 3_000})
    watched = Watched.open(page, report)

    expect(page.locator("#count")).to_have_text("17 jobs")
    expect(page.locator(".legend")).to_contain_text("12 succeeded")
    expect(page.locator(".tiles")).to_contain_text("$8.60")
    expect(page.locator(".tile")).to_have_count(17)
    watched.check()


def test_a_video_plays_in_its_place(report: Path, page: Page) -> None:
    """From the file that was saved, with its picture there before anybody presses play."""
    watched = Watched.open(page, report)
    tile = watched.tile("shot-00")
    video = tile.locator("video")
    video.wait_for()
    page.wait_for_function("video => video.readyState >= 2", arg=video.element_handle())

    tile.locator(".play").click()

    moved = "video => !video.paused && video.currentTime > 0.2 && video.videoWidth > 0"
    page.wait_for_function(moved, arg=video.element_handle())
    assert any(url.endswith("/videos/shot-00.mp4") for url in watched.requests)
    watched.check()


def test_the_demo_lists_all_its_videos_and_plays_one(page: Page, tmp_path: Path) -> None:
    """What `make demo` runs, with a faster clock: 200 prompts, 200 films on the page."""
    (command,) = re.findall(r"^DEMO = (.*?[^\\])$", MAKEFILE, re.MULTILINE | re.DOTALL)
    command = command.replace("\\\n", " ").replace("{}", shlex.quote(str(tmp_path)))
    quick = "--emulator --emulator-speed 150"
    command = command.replace("apixo ", f"{sys.executable} -m apixo_async.cli ")
    command = command.replace("--emulator", quick)
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S602  # our own Makefile

    page.set_viewport_size({"width": 1200, "height": 3_000})
    watched = Watched.open(page, Path(done.stdout.splitlines()[-1]))

    expect(page.locator("#count")).to_have_text("200 jobs")
    tiles = page.locator(".tile:not(.is-still) .name")
    names = set(tiles.all_text_contents())
    while page.evaluate("scrollY + innerHeight < document.body.scrollHeight - 1"):
        page.evaluate("scrollBy(0, innerHeight - 600)")
        page.evaluate(TWO_FRAMES)
        names |= set(tiles.all_text_contents())
    assert len(names) == 200
    page.evaluate("scrollTo(0, 0)")
    page.locator(".tile .play").nth(2).click()
    page.wait_for_function(
        "() => [...document.querySelectorAll('video')].some(video => video.currentTime > 0.2)"
    )
    watched.check()


def test_filters_go_together(report: Path, page: Page) -> None:
    """Outcome, mode and words; what is left is counted, and a wish that nothing fulfils is told."""
    watched = Watched.open(page, report)
    count, keys = page.locator("#count"), page.locator(".tile .name")

    page.select_option("#outcome", label="failed (3)")
    expect(keys).to_have_text(["bad-words", "broken-1", "broken-2"])
    page.fill("#search", "RUDE")
    expect(keys).to_have_text(["bad-words"])
    page.select_option("#outcome", "")
    page.fill("#search", "fox take")
    expect(count).to_have_text("12 of 17 jobs")
    page.select_option("#kind", label="veo-3-1 · quality (4)")
    page.select_option("#order", "longest")
    expect(keys).to_have_text(["shot-09", "shot-06", "shot-03", "shot-00"])
    page.fill("#search", "no such words")
    expect(page.locator("#nothing")).to_be_visible()
    watched.check()


def test_a_phone_shows_charts_that_can_be_read(report: Path, page: Page) -> None:
    """They keep their size and are scrolled, each by itself; the head leaves room for the rest."""
    page.set_viewport_size({"width": 380, "height": 760})
    watched = Watched.open(page, report)
    heights = "texts => texts.map(text => text.getBoundingClientRect().height)"

    assert page.locator("#search").evaluate("one => one.getBoundingClientRect().top") < 760
    watched.go("course")
    labels = page.locator("#course svg text").evaluate_all(heights)
    assert min(height for height in labels if height) >= 9
    assert page.locator(".drawn").first.evaluate("one => one.scrollWidth > one.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    watched.check()


def test_problems_come_with_their_commands(report: Path, page: Page) -> None:
    """Failures by code with what they mean, doubts with what settles them; both lead to jobs."""
    watched = Watched.open(page, report)
    watched.go("problems")
    problems = page.locator("#problems")

    expect(problems).to_contain_text("against the content policy")
    expect(problems.locator("article.card h3").first).to_contain_text("GENERATION_FAILED")
    settle = problems.locator("details.card", has_text="lost")
    settle.locator("summary").click(position={"x": 5, "y": 5})
    expect(settle.locator("code", has_text="--task-id t-lost")).to_be_visible()
    problems.get_by_role("button", name="show them").click()
    expect(page.locator(".tile .name")).to_have_text(["broken-1", "broken-2"])
    page.click("#reason button")
    expect(page.locator("#count")).to_have_text("17 jobs")
    watched.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_charts_are_drawn_and_tell_their_numbers(
    report: Path, browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    """In the page's own colours, by day and by night; numbers stand under the pointer."""
    page = browser.new_page(color_scheme=scheme)
    watched = Watched.open(page, report)
    colours = {"light": "rgb(54, 86, 143)", "dark": "rgb(133, 165, 224)"}
    watched.go("course")
    charts = page.locator("#course .chart")

    expect(charts.locator("svg")).to_have_count(3)
    expect(charts.first).to_contain_text("time (UTC)")
    line = charts.first.locator(".mark-line path").first
    assert line.evaluate("line => getComputedStyle(line).stroke") == colours[scheme]
    charts.first.locator(".mark-rect [aria-label]").nth(2).hover(force=True)
    expect(page.locator("#hint")).to_contain_text("10 running tasks of 10")
    watched.go("durations")
    expect(page.locator("#durations .chart")).to_have_count(3)
    expect(page.locator("#durations")).to_contain_text("half within 3.0 s")
    watched.check()
    page.close()


def test_hostile_texts_are_only_texts(browser: Browser, page: Page, tmp_path: Path) -> None:
    """In prompts, keys, metadata, reasons, codes and file names: shown, and nothing else."""

    async def write(batch: Batch) -> None:
        for key, prompt in HOSTILE.items():
            await batch.succeed(key, prompt, metadata={"note": prompt.replace("\ud83d", "")})
        await batch.succeed(
            "files", files=['a"b<i>#?% \u202e.mp4', "javascript:alert(1).mp4"], urls=()
        )
        key = f"'\"><svg onload='{HURT}'>"
        await batch.fail(key, HOSTILE["script"], HOSTILE["attribute"], HOSTILE["script"])
        await batch.doubt(f"-{key}", HOSTILE["attribute"], named=HOSTILE["attribute"])

    journal = make(tmp_path / "'><b>&.db", write, videos=tmp_path / "videos")
    watched = Watched.open(page, write_report(journal, tmp_path / "report"))

    for key, prompt in HOSTILE.items():
        detail = watched.detail(key)
        assert detail.locator(".words").evaluate("words => words.textContent") == prompt
        page.keyboard.press("Escape")
    for part in ("course", "durations", "problems"):
        watched.go(part)
    for summary in page.locator("#problems summary").all():
        summary.click(position={"x": 5, "y": 5})
    watched.go("videos")
    films = watched.detail("files").locator("video")
    expect(films).to_have_count(2)
    for at in range(2):
        page.wait_for_function("film => film.readyState >= 1", arg=films.nth(at).element_handle())

    assert page.evaluate("window.hurt") is None
    watched.check()


def test_only_web_addresses_become_links(page: Page, tmp_path: Path) -> None:
    """What is not saved is played from there, and nobody is asked before somebody presses play."""
    web = "https://results.example/a.mp4?sig=1&x=2"
    addresses = [web, f"javascript:{HURT}", "data:text/html,x", "//x/y"]

    async def write(batch: Batch) -> None:
        for at, url in enumerate(addresses):
            await batch.succeed(f"job-{at}", urls=[url])
        await batch.succeed("old", at=-16 * 86_400, urls=[web])

    journal = make(tmp_path / "run.db", write)
    watched = Watched.open(page, write_report(journal, tmp_path / "report"))

    expect(page.locator(".tile video")).to_have_count(1)
    expect(watched.tile("old")).to_contain_text("expired")
    expect(watched.tile("job-1")).to_contain_text("no result to play")
    watched.check()
    link = watched.detail("job-0").locator("a")
    assert link.get_attribute("href") == web
    assert link.get_attribute("rel") == "noopener noreferrer"


def test_a_long_gallery_holds_few_elements(page: Page, tmp_path: Path) -> None:
    """Of 1,000 jobs those in sight have elements; scrolled to the end, the last one is there."""

    async def write(batch: Batch) -> None:
        for number in range(1_000):
            await batch.begin(f"job-{number:04}", f"{PROMPT} {number}", at=0)

    journal = make(tmp_path / "run.db", write)
    watched = Watched.open(page, write_report(journal, tmp_path / "report"))

    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(watched.tile("job-0999")).to_be_visible()
    assert page.locator(".tile").count() < 40
    page.fill("#search", "0234")
    expect(page.locator(".tile .name")).to_have_text(["job-0234"])
    watched.check()


def test_an_empty_journal_says_so(page: Page, tmp_path: Path) -> None:
    """In words, where charts and videos would be."""

    async def write(_: Batch) -> None:
        pass

    journal = make(tmp_path / "run.db", write)
    watched = Watched.open(page, write_report(journal, tmp_path / "report"), tiles=False)

    expect(page.locator(".status")).to_contain_text("There are no jobs in this journal yet.")
    watched.go("course")
    expect(page.locator("#course")).to_contain_text("no batch has run with this journal yet")
    watched.check()
