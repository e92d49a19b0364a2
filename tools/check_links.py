"""Check that links to other files here, and to places in them, lead somewhere.

Without an argument these are the links in Markdown files; with a directory, those of the site that
was built there: on its pages, in their texts and in llms.txt.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(
    r"\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*<?(\S+?)>?\s*$", re.MULTILINE
)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def headings(text: str) -> set[str]:
    """Return the anchors of a page's headings as code hosts make them."""
    found: set[str] = set()
    for title in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        anchor = base = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{base}-{number}"
        found.add(anchor)
    return found


def dead_links(page: Path) -> list[str]:
    """Return one line for each link on the page that leads nowhere."""
    text = page.read_text(encoding="utf-8")
    dead: list[str] = []
    for match in LINK.finditer(CODE.sub("", FENCE.sub("", text))):
        link = match[1] or match[2]
        if ELSEWHERE.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        is_page = target.suffix == ".md"
        if not target.exists():
            dead.append(f"{page}: {link} does not exist")
        elif anchor and is_page and anchor not in headings(target.read_text(encoding="utf-8")):
            dead.append(f"{page}: {link} names no heading")
    return dead


class Page(HTMLParser):
    """The links of a page, and the places that links can name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Note what a tag leads to, and what it is called."""
        for name, value in attrs:
            if name in {"href", "src"} and value is not None:
                self.links.append(value)
            elif name == "id" and value is not None:
                self.places.add(value)


def dead_links_of_site(site: Path) -> list[str]:
    """Return one line for each link of the site that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    dead = [
        f"{path.relative_to(site.resolve())}: {link} {fault}"
        for path, page in pages.items()
        for link in page.links
        if not ELSEWHERE.match(link) and (fault := _fault(path, link, pages))
    ]
    texts = [*sorted((site / "text").rglob("*.md")), *sorted(site.glob("llms*.txt"))]
    for text in texts:
        dead += [line.removeprefix(f"{site}/") for line in dead_links(text)]
    return dead


def _fault(path: Path, link: str, pages: dict[Path, Page]) -> str:
    """What is wrong with a link on the page at `path`, or nothing."""
    there, _, place = link.partition("#")
    target = (path.parent / unquote(there.partition("?")[0])).resolve() if there else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return "does not exist"
    is_known = not place or target not in pages or unquote(place) in pages[target].places
    return "" if is_known else "names no place"


if __name__ == "__main__":
    if sites := sys.argv[1:]:
        faults = [fault for site in sites for fault in dead_links_of_site(Path(site))]
        fine = f"links: those of {', '.join(sites)} lead somewhere"
    else:
        pages = [*Path().glob("*.md"), *Path("docs").rglob("*.md"), *Path("examples").rglob("*.md")]
        faults = [fault for page in sorted(pages) for fault in dead_links(page)]
        fine = f"links: those in {len(pages)} pages lead somewhere"
    print("\n".join(faults) or fine)
    sys.exit(bool(faults))
