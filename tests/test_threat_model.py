"""The threat model names tests, and they exist."""

from __future__ import annotations

import re

import pytest

from tests.named import ROOT, exists, named_in

PAGE = "docs/threat-model.md"


@pytest.mark.parametrize("test", sorted(set(named_in(PAGE))), ids="::".join)
def test_what_the_threat_model_names_exists(test: tuple[str, str, str]) -> None:
    """Each test that shows what is claimed is there, under that name."""
    assert exists(*test)


@pytest.mark.parametrize(
    "test",
    [
        ("tests/test_threat_model.py", "test_that_was_renamed", ""),
        ("tests/test_that_is_gone.py", "test_what_the_threat_model_names_exists", ""),
        ("tests/test_threat_model.py", "exists", ""),
        ("tests/wire/test_envelope.py", "TestThatIsGone", "test_any"),
    ],
    ids=["another name", "another file", "no test", "another class"],
)
def test_what_is_not_there_is_noticed(test: tuple[str, str, str]) -> None:
    """A test that was renamed, moved or removed makes the page wrong."""
    assert not exists(*test)


def test_every_defence_is_shown_and_every_limit_said() -> None:
    """Each row of each table names a test, and each kind of attacker has a paragraph of limits."""
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    parts = [part for part in page.split("\n## ")[1:] if "| he wants |" in part]
    rows = [line for part in parts for line in part.splitlines() if line.startswith("| ")]

    claims = [row for row in rows if not row.startswith("| he wants |")]
    assert len(parts) == 10
    assert len(claims) > 25
    assert not [row for row in claims if not re.search(r"`tests/[\w/]+\.py::test_\w+`", row)]
    assert not [part for part in parts if "\nNot covered: " not in part]
