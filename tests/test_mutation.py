"""The tool that changes our code in small ways, to see whether a test fails."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def mutants() -> ModuleType:
    """The part of the tool that finds what may be changed."""
    file = ROOT / "tools" / "mutation" / "mutants.py"
    spec = importlib.util.spec_from_file_location("mutants", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changes_of(source: str, directory: Path) -> list[str]:
    """What the tool would change in this module."""
    file = directory / "m.py"
    file.write_text(source)
    _, found = mutants().mutants_of(file, "m")
    return sorted(mutant.change for mutant in found)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("a is None", ["a is None -> a is not None"]),
        ("x = a + b", ["a + b -> a - b"]),
        ("x = a and not b", ["a and (not b) -> a or not b", "not b -> b"]),
        ("x = 3", ["3 -> 4", "3 -> 2"]),
        ("x = 2.0", ["2.0 -> 3.0", "2.0 -> 1.0"]),
        ("x = 'ab'", ["'ab' -> 'aXXb'"]),
        ("x = [a for a in b if a]", ["a -> True"]),
        ("if a:\n    f()", ["a -> True", "a -> False", "f() -> pass"]),
        ("while a:\n    break", ["a -> False", "break -> continue"]),
        ("self.a = b", ["self.a = b -> pass"]),
        ("def f():\n    return a", ["return a -> return None"]),
        ("def f():\n    return False", ["False -> True"]),
        ("def f(a=1):\n    pass", ["1 -> 2", "1 -> 0"]),
        (
            "try:\n    f()\nexcept (A, B):\n    pass",
            ["f() -> pass", "(A, B) -> (B,)", "(A, B) -> (A,)"],
        ),
        (
            "raise AError('no')",
            ["raise AError('no') -> pass", "AError('no') -> ZeroDivisionError()"],
        ),
        ("match a:\n    case B() | C():\n        pass", ["B() | C() -> C()", "B() | C() -> B()"]),
    ],
)
def test_what_may_be_changed(tmp_path: Path, source: str, changes: list[str]) -> None:
    """Operators, bounds, constants, conditions, statements, errors, and what is returned."""
    assert sorted(changes) == changes_of(source, tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "class A:\n    def __repr__(self):\n        return 'x'",
        "if TYPE_CHECKING:\n    x = 1",
        "if sys.platform == 'win32':\n    x = 1",
        "LOGGER.info('text %d', 1)",
        "def f(a: 'int' = None) -> 'str': ...",
        "T = TypeVar('T')",
        "A: TypeAlias = 'int'",
        "__all__ = ['a']",
        "rule = f'must be {a}'",
        "a = 1  # pragma: no cover",
    ],
)
def test_what_is_left_alone(tmp_path: Path, source: str) -> None:
    """Texts for people, what only the type checker sees, and what cannot run here."""
    assert changes_of(source, tmp_path) == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mutants_are_tried_and_not_tried_again(tmp_path: Path) -> None:
    """Those of a module with good tests are killed, in functions and where it is imported."""
    command = [sys.executable, "-m", "tools.mutation", "retries", "--results", str(tmp_path)]
    first, second = (
        subprocess.run(
            [*command, "--sample", "12"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    )
    tried = (tmp_path / "retries.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in tried]

    assert {line["outcome"] for line in lines} == {"killed"}
    assert {line["id"].split(":")[2] for line in lines} >= {"constant", "compare"}
    assert len(lines) == len({line["id"] for line in lines}) == 12
    for done in (first, second):
        assert re.search(r"retries: 12 of \d+ mutants tried, 12 killed \(100\.0%", done.stdout)
