"""Tests that our pages name, and whether they exist."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)(?:::(\w+))?`")


@functools.cache
def _tree(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_text(encoding="utf-8")).body


def _defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {one.name: one for one in body if isinstance(one, kinds)}


def exists(path: str, name: str, method: str = "", *, root: Path = ROOT) -> bool:
    """Whether there is such a test; it is looked for in the source, nothing is imported."""
    file = root / path
    if not name.startswith(("test_", "Test")) or not file.is_file():
        return False
    found = _defined(_tree(file)).get(name)
    if isinstance(found, ast.ClassDef):
        return method in _defined(found.body)
    return found is not None and not method


def named_in(page: str) -> list[tuple[str, str, str]]:
    """File, name and method of each test that a page names in backquotes."""
    return _NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
