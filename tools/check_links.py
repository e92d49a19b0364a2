"""Check that links in Markdown files, to other files here and to their headings, lead somewhere."""

import re
import sys
from pathlib import Path

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


if __name__ == "__main__":
    pages = [*Path().glob("*.md"), *Path("docs").rglob("*.md"), *Path("examples").rglob("*.md")]
    faults = [fault for page in sorted(pages) for fault in dead_links(page)]
    print("\n".join(faults) or f"links: those in {len(pages)} pages lead somewhere")
    sys.exit(bool(faults))
