"""A notebook's loop runs already: what is awaited at the top of a cell works in a kernel."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from apixo_async.testing import EmulatorThread

notebooks: Any = nbformat  # it has no types
ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAIN = re.compile(r"async def main\(\):\n(.*?)\nasyncio\.run\(main\(\)\)", re.DOTALL)

FAST = """
from apixo_async import PollSchedule
from apixo_async.client import verbs
verbs.PollSchedule = lambda: PollSchedule(first=0.1, interval=0.02)
"""
NOTHING_ELSE = """
import asyncio, sys
assert asyncio.get_running_loop().is_running()
assert "uvloop" not in type(asyncio.get_running_loop()).__module__
assert not hasattr(asyncio, "_nest_patched") and "nest_asyncio" not in sys.modules
"""


def cells_of_readme() -> list[str]:
    """Its programs, with what is in `main` at the top of a cell."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return [MAIN.sub(lambda main: textwrap.dedent(main[1]), block) for block in blocks]


def run(notebook: Any, place: Path) -> Any:  # noqa: ANN401  # nbformat has no types
    """Runs all cells in a kernel of their own, with files in `place`."""
    client = nbclient.NotebookClient(
        notebook,
        timeout=50,
        kernel_name="python3",
        resources={"metadata": {"path": str(place)}},
    )
    with asyncio.Runner() as runner:  # nbclient's own way needs a loop of pytest's thread
        return runner.run(client.async_execute())


@pytest.mark.slow
@pytest.mark.apixo_emulator(speed=600)
def test_the_code_of_the_readme_runs_at_the_top_of_a_cell(
    apixo_emulator: EmulatorThread, tmp_path: Path
) -> None:
    """Its program, awaited without `main` and `asyncio.run`."""
    cells = cells_of_readme()
    notebook = notebooks.v4.new_notebook()
    notebook.cells = [notebooks.v4.new_code_cell(code) for code in [FAST, *cells, NOTHING_ELSE]]
    run(notebook, tmp_path)

    assert len(cells) == 1
    assert all("\nasync with " in cell and "asyncio.run" not in cell for cell in cells)
    assert apixo_emulator.ledger.billed_total == 1
    assert apixo_emulator.ledger.finished["success"] == 1


@pytest.mark.slow
def test_the_example_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, with an emulator of its own; every cell shows what its text says."""
    for name in ("APIXO_API_KEY", "APIXO_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    notebook = run(notebooks.read(NOTEBOOK, as_version=4), tmp_path)

    shown = [str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert "success" in shown[1]
    assert ".mp4" in shown[2]
    assert shown[3].count("succeeded 1 file") == 5
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 6


def test_the_example_is_kept_without_outputs() -> None:
    """What a run of somebody's printed is no part of it."""
    notebook = notebooks.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert [cell.outputs for cell in cells] == [[]] * len(cells)
    assert {cell.execution_count for cell in cells} == {None}


def test_importing_needs_no_loop_of_another_kind() -> None:
    """Neither uvloop nor anything that nests loops is loaded by the package."""
    code = (
        "import sys, apixo_async; [getattr(apixo_async, name) for name in apixo_async.__all__];"
        "print(sorted({'uvloop', 'nest_asyncio', 'IPython'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
