"""How the site is built: `make docs`. Pages are plain Markdown; docs/index.md is their order."""

import re
import shutil
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import apixo_async

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tools"))

import docs_pages  # noqa: E402  # found beside the checkout's other tools

project = "apixo-async"
author = "The apixo-async authors"
project_copyright = author
version = release = installed_version("apixo-async")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
# A name in single backticks, as docstrings have them, leads to what is called so.
default_role = "py:obj"
smartquotes = False  # -- in an option is no dash
python_display_short_literal_types = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_type_aliases = {
    "Event": "apixo_async.batch.events.Event",
    "Money": "apixo_async.batch.spending.Money",
    "Request": "apixo_async.Request",
    "Source": "apixo_async.batch.source.Source",
}
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# Commands are copied without what they print; "> " goes on with the one above.
copybutton_prompt_text = r"\$ |> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

html_theme = "furo"
html_title = "apixo-async"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7db8f5", "color-brand-content": "#7db8f5"},
}

LONG = 36
ALIAS = re.compile(r"TypeAliasForwardRef\('([\w.]+)'\)")
NAME = re.compile(r"(?:apixo_async\.)?([A-Z]\w+(?:\.\w+)?)(?:\(.*\))?")


def with_navigation(_: Sphinx, page: str, text: list[str]) -> None:
    """The landing page gets the sidebar; links out of docs/ lead to the site's own pages."""
    if page == "index":
        text[0] += "\n" + docs_pages.toctrees(text[0])
    text[0] = docs_pages.text_of(HERE, page, text[0])


def keep_colons(
    _app: Sphinx, what: str, _name: str, _: object, __: object, text: list[str]
) -> None:
    """A colon in the first line of a field's docstring is no type before it, as napoleon thinks."""
    if what in {"attribute", "property", "data"}:
        text[:0] = ["..", ""]  # an empty comment, after which it looks for no type


def shown_signature(
    _app: Sphinx,
    what: str,
    name: str,
    _object: object,
    _options: object,
    signature: str | None,
    result: str | None,
) -> tuple[str | None, str | None]:
    """As a reader may write it: events are made for him, and aliases are called by their names."""
    if what == "class" and name.startswith("apixo_async.batch.events."):
        return "", None
    if signature is None:
        return None, result
    # What attrs makes anew each time has no default to show.
    return ALIAS.sub(r"\1", signature.replace("NOTHING", "...")), result


def link_names(app: Sphinx, tree: nodes.document) -> None:
    """Public names in `backticks` on pages of prose lead to the reference, too."""
    if app.env.doc2path(app.env.docname).suffix != ".md":
        return
    for literal in list(tree.findall(nodes.literal)):
        match = NAME.fullmatch(literal.astext())
        if match is None or isinstance(literal.parent, (nodes.reference, addnodes.pending_xref)):
            continue
        if match[1].partition(".")[0] not in apixo_async.__all__:
            continue
        link = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=f"apixo_async.{match[1]}", refwarn=False
        )
        literal.replace_self(link)
        link += literal


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Element | None:
    """A class that another module documents, if there is only one of that name."""
    target = node["reftarget"]
    if node.get("refdomain") != "py" or not re.fullmatch(r"[A-Z]\w+", target):
        return None
    found = env.domains.python_domain.find_obj(env, "", "", target, None, 1)
    if len(found) != 1:
        return None
    ((name, there),) = found
    return make_refnode(app.builder, node["refdoc"], there.docname, there.node_id, text, name)


def set_type(_: Sphinx, tree: nodes.document) -> None:
    """Between a parameter and its text stands a dash; smart quotes, which make it one, are off.

    Long names, such as those of tests, may be broken.
    """
    for literal in tree.findall(nodes.literal):
        if len(literal.astext()) > LONG:
            literal["classes"].append("long")
    for text in list(tree.findall(nodes.Text)):
        if text.astext() == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def write_texts(app: Sphinx, error: Exception | None) -> None:
    """llms.txt and the texts of pages that are written as such; then llms-full.txt, which is all.

    The Makefile builds with `html`, then with `text` for the pages that are made from the code.
    """
    if error is not None:
        return
    index = (HERE / "index.md").read_text(encoding="utf-8")
    entries = [entry for section in docs_pages.navigation(index).values() for entry in section]
    if app.builder.name == "html":
        (app.outdir / "llms.txt").write_text(docs_pages.llms_txt(index), encoding="utf-8")
        write_text(app.outdir, "index")
        for entry in entries:
            if entry.path.endswith(".md"):
                write_text(app.outdir, entry.page)
    elif app.builder.name == "text":
        site = app.outdir.parent
        (app.outdir / "index.txt").unlink()  # the landing page, which index.md is
        sources = {"index": "text/index.md"}
        sources.update({entry.page: docs_pages.source_of(entry) for entry in entries})
        texts = [
            docs_pages.from_above(page, (site / source).read_text("utf-8"))
            for page, source in sources.items()
        ]
        (site / "llms-full.txt").write_text("\n\n".join(texts), encoding="utf-8")


def write_text(site: Path, page: str) -> None:
    """The text of a page of Markdown, and beside it the pictures and programs that it links."""
    text = docs_pages.plain_text(HERE, page, (HERE / f"{page}.md").read_text(encoding="utf-8"))
    target = site / "text" / f"{page}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    for file in docs_pages.files_of(HERE, page, text):
        there = site / "text" / file
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(HERE / file, there)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", with_navigation)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("autodoc-process-signature", shown_signature)
    app.connect("doctree-read", link_names)
    app.connect("doctree-read", set_type)
    app.connect("missing-reference", find_elsewhere)
    app.connect("build-finished", write_texts)
