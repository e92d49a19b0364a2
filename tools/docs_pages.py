"""What the site takes from docs/index.md, its landing page and only table of contents.

Each `##` section of it with a list of links is a part of the navigation, in the same order. The
sidebar and llms.txt are made of it, so a page has to be named once, with a sentence that says what
it is for.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
ENTRY: Final = re.compile(r"^- \[([^\]]+)\]\(([^)]+)\): (.+)$", re.MULTILINE)
LINK: Final = re.compile(r"(\]\()([^)#\s]+)(#[^)]*)?(\))")
CODE: Final = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
SCHEME: Final = re.compile(r"[a-z]+:")

OUTSIDE: Final[Mapping[str, str]] = {
    "../CHANGELOG.md": "project/changelog.md",
    "../CONTRIBUTING.md": "project/contributing.md",
    "../README.md": "index.md",
    "../SECURITY.md": "project/security.md",
    "../examples/README.md": "project/examples.md",
}
"""Pages beside docs/ and the pages of the site that show them."""


class Entry(NamedTuple):
    """A page as docs/index.md names it."""

    title: str
    path: str
    """From docs/, as it is written there."""
    sentence: str

    @property
    def page(self) -> str:
        """The page of the site, without its suffix."""
        return posixpath.splitext(OUTSIDE.get(self.path, self.path))[0]


def navigation(index: str) -> dict[str, list[Entry]]:
    """The sections of the index that list pages, in order."""
    _, *parts = HEADING.split(index)
    found = {
        title: [Entry(*entry) for entry in ENTRY.findall(body)]
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }
    return {title: entries for title, entries in found.items() if entries}


def toctrees(index: str) -> str:
    """The sidebar, as hidden tables of contents; a page that is in none fails the build."""
    parts: list[str] = []
    for title, entries in navigation(index).items():
        pages = "\n".join(f"{entry.title} <{entry.page}>" for entry in entries)
        parts.append(f"```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n")
    return "\n".join(parts)


def text_of(docs: Path, page: str, text: str) -> str:
    """A page as the site shows it: pages beside docs/ in full, and links led to where they are."""
    folder = posixpath.dirname(page)
    beside = {there: outside for outside, there in OUTSIDE.items() if page != "index"}
    if outside := beside.get(f"{page}.md"):
        return _led(
            (docs / outside).read_text(encoding="utf-8"), posixpath.dirname(outside), folder
        )
    return _led(text, folder, folder)


def _led(text: str, written_in: str, shown_in: str) -> str:
    """Links of a page shown somewhere else, or that leave docs/. Folders are below it."""
    shown_below = posixpath.join("docs", shown_in)
    shown_at = {
        posixpath.normpath(posixpath.join("docs", path)): posixpath.join("docs", page)
        for path, page in OUTSIDE.items()
    }

    def led(match: re.Match[str]) -> str:
        # From the root of the checkout, so that the name of its own directory does not matter.
        target = posixpath.normpath(posixpath.join("docs", written_in, match[2]))
        is_ours = not SCHEME.match(match[2])
        if not is_ours or (written_in == shown_in and target not in shown_at):
            return match[0]
        there = posixpath.relpath(shown_at.get(target, target), shown_below)
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    return LINK.sub(led, text)


def plain_text(docs: Path, page: str, text: str) -> str:
    """A page as its text is on the site, where those that are made from the code are .txt."""

    def led(match: re.Match[str]) -> str:
        if SCHEME.match(match[2]) or not match[2].endswith(".rst"):
            return match[0]
        return f"{match[1]}{match[2].removesuffix('.rst')}.txt{match[3] or ''}{match[4]}"

    return _outside_of_code(led, text_of(docs, page, text))


def files_of(docs: Path, page: str, text: str) -> Iterator[str]:
    """The files that a text shows or links and that are no pages, as paths from docs/."""
    folder = posixpath.dirname(page)
    for _, link, *_ in LINK.findall(CODE.sub("", text)):
        path = posixpath.normpath(posixpath.join(folder, link))
        if (
            not SCHEME.match(link)
            and posixpath.splitext(path)[1] != ".md"
            and (docs / path).is_file()
        ):
            yield path


def from_above(page: str, text: str) -> str:
    """The text of a page with the links that it needs beside the folder of texts, not in it."""
    folder = posixpath.join("text", posixpath.dirname(page))

    def led(match: re.Match[str]) -> str:
        if SCHEME.match(match[2]):
            return match[0]
        there = posixpath.normpath(posixpath.join(folder, match[2]))
        return f"{match[1]}{there}{match[3] or ''}{match[4]}"

    return _outside_of_code(led, text)


def _outside_of_code(led: Callable[[re.Match[str]], str], text: str) -> str:
    """Links are led elsewhere; what only looks like one, in code, is not."""
    parts: list[str] = []
    end = 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(led, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(led, text[end:])])


def llms_txt(index: str, url: str = "") -> str:
    """The index as llmstxt.org wants it: every page with a sentence, and where its text is."""
    title = index.splitlines()[0]
    summary = " ".join(index.split("\n\n")[1].split())
    lines = [title, "", f"> {summary}", ""]
    for section, entries in navigation(index).items():
        lines += [f"## {section}", ""]
        lines += [
            f"- [{entry.title}]({url}{source_of(entry)}): {entry.sentence}" for entry in entries
        ]
        lines.append("")
    lines += ["## Optional", "", f"- [All of it]({url}llms-full.txt): every page in one file", ""]
    return "\n".join(lines)


def source_of(entry: Entry) -> str:
    """Where the built site has the text of a page, without its navigation."""
    return f"text/{entry.page}.{'md' if entry.path.endswith('.md') else 'txt'}"


def pages(docs: Path) -> Iterator[str]:
    """Every page that is in docs/, as the index has to name it."""
    for path in sorted(docs.rglob("*")):
        relative = path.relative_to(docs).as_posix()
        if path.suffix in {".md", ".rst"} and relative != "index.md":
            shown = {there: outside for outside, there in OUTSIDE.items()}
            yield shown.get(relative, relative)
