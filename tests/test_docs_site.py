"""The site: what it is made of is complete. `make docs` builds it, and fails on a warning."""

import importlib.util
from types import ModuleType

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
