"""The site: what it is made of is complete. `make docs` builds it, and fails on a warning."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.docstrings import public
from tests.pages import ROOT


def tool(name: str) -> ModuleType:
    """A script of tools/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INDEX = (ROOT / "docs/index.md").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation() -> None:
    """docs/index.md names each once, with a sentence; the sidebar and llms.txt are made of it."""
    site = tool("docs_pages")
    named = [entry.path for entries in site.navigation(INDEX).values() for entry in entries]

    assert sorted(named) == sorted(site.pages(ROOT / "docs"))
    assert INDEX.count("\n- [") == len(named), "a line of the index is not as - [title](page): why"


def test_llms_txt_lists_every_page_with_a_sentence() -> None:
    """It is as llmstxt.org says: a title, a summary, sections of links and what they are for."""
    site = tool("docs_pages")
    title, _, summary, *lines = site.llms_txt(INDEX).splitlines()

    assert title == "# apixo-async"
    assert summary.startswith("> Thousands of Veo 3.1 videos")
    assert any("[The gate](text/explanation/gate.md): how both limits" in line for line in lines)
    assert sum(line.startswith("- [") for line in lines) == 1 + len(list(site.pages(ROOT / "docs")))


def test_links_out_of_docs_lead_to_the_same_on_the_site() -> None:
    """The changelog and its like are pages there, and their own links lead back."""
    site = tool("docs_pages")
    docs = ROOT / "docs"

    shown = site.text_of(docs, "threat-model", "see [it](../SECURITY.md#a), [us](design.md)")
    assert shown == "see [it](project/security.md#a), [us](design.md)"
    shown = site.text_of(docs, "project/security", "")
    assert "(../threat-model.md)" in shown
    assert "(contributing.md#before-a-release)" in shown


def test_texts_link_to_texts() -> None:
    """Pages made from the code are .txt there; code and other sites are left as they are."""
    site = tool("docs_pages")
    shown = site.plain_text(
        ROOT / "docs",
        "how-to/batches",
        "[all](../reference/events.rst#x), [it](../../CONTRIBUTING.md), `[a](b.rst)`, "
        "[there](https://example.org/a.rst)\n```python\n[b](c.rst)\n```\n",
    )

    assert shown == (
        "[all](../reference/events.txt#x), [it](../project/contributing.md), `[a](b.rst)`, "
        "[there](https://example.org/a.rst)\n```python\n[b](c.rst)\n```\n"
    )


def test_what_texts_show_and_link_is_beside_them() -> None:
    """Pictures and programs are copied, from docs/ and from where they are outside of it."""
    site = tool("docs_pages")
    text = "![a](../images/job-life.svg) [b](../../examples/page.html) [c](batches.md) [d](#e)"

    assert list(site.files_of(ROOT / "docs", "how-to/resume", text)) == [
        "images/job-life.svg",
        "../examples/page.html",
    ]


def test_links_of_all_texts_in_one_lead_from_there() -> None:
    """llms-full.txt is above the folder of texts; links to headings stay on their page."""
    site = tool("docs_pages")

    shown = site.from_above("how-to/resume", "[a](../journal.md#b) [c](#d) [e](mailto:f@b.org)")
    assert shown == "[a](text/journal.md#b) [c](#d) [e](mailto:f@b.org)"


SITE = {
    "index.html": '<a href="a/b.html#there"><i id="top"><a href="#top"><img src="a/p%20q.png">',
    "a/b.html": '<h1 id="there"><a href="../index.html">up</a><a href="https://example.org">x</a>',
    "a/p q.png": "",
    "llms.txt": "- [b](text/b.md): all of b",
    "text/b.md": "# One thing\n[c](c.txt) [b](b.md#one-thing) [p](<../a/p q.png>)",
    "text/c.txt": "see [nothing](nowhere.md)",
}


@pytest.mark.parametrize(
    ("page", "text", "dead"),
    [
        ("index.html", SITE["index.html"], []),
        ("index.html", '<a href="c.html">c</a>', ["index.html: c.html does not exist"]),
        ("index.html", '<a href="a/b.html#x">', ["index.html: a/b.html#x names no place"]),
        ("a/b.html", '<h1 id="there"><img src="../p.png">', ["a/b.html: ../p.png does not exist"]),
        ("llms.txt", "[b](text/d.md)", ["llms.txt: text/d.md does not exist"]),
        ("text/b.md", "# One thing\n[c](c.rst)", ["text/b.md: c.rst does not exist"]),
        ("text/b.md", "# Two\n[b](b.md#one)", ["text/b.md: b.md#one names no heading"]),
    ],
)
def test_a_link_of_the_site_that_leads_nowhere_is_found(
    page: str, text: str, dead: list[str], tmp_path: Path
) -> None:
    """On its pages, in its texts and in llms.txt, to files and to places in them."""
    for name, content in {**SITE, page: text}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")

    assert tool("check_links").dead_links_of_site(tmp_path) == dead


def test_every_public_name_is_in_the_reference() -> None:
    """A name that can be imported can be looked up."""
    pages = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "docs/reference").glob("*.rst")
    )
    missing_names = [
        name
        for name, _ in public()
        if f" {name.rpartition('.')[2]}\n" not in pages and f" {name}\n" not in pages
    ]

    assert missing_names == ["apixo_async.testing.pytest_configure"]  # pytest's, not the reader's
