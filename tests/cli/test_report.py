"""`apixo report`: the page about a batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apixo_async.cli import exits
from tests.batch.report.journals import make, whole
from tests.cli.conftest import run


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal of a usual batch."""
    return make(tmp_path / "run.db", whole)


def test_it_prints_the_path_of_the_page(journal: Path, tmp_path: Path) -> None:
    """And nothing else, so that it can be handed on; a second time replaces it."""
    for _ in range(2):
        result = run("report", journal, "-o", tmp_path / "out")

        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"{tmp_path / 'out' / 'index.html'}\n"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "12 succeeded" in page
    assert f"apixo settle {journal} lost --task-id t-lost" in page


def test_prices_may_be_given(journal: Path, tmp_path: Path) -> None:
    """They count instead of those that are noted."""
    run("report", journal, "-o", tmp_path / "out", "--price", "fast=1", "--price", "quality=10")

    assert "$53.00" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_what_cannot_be_done_is_told_in_a_line(journal: Path, tmp_path: Path) -> None:
    """A directory of somebody else, and what is no journal."""
    for arguments, why in (
        ((journal, "-o", tmp_path), "holds no report of ours"),
        ((tmp_path / "no.db", "-o", tmp_path / "out"), "there is no journal"),
    ):
        result = run("report", *arguments)

        assert (result.exit_code, result.stdout) == (exits.USAGE, "")
        assert why in result.stderr


def test_without_the_extra_it_says_what_to_install(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; whoever has not asked for reports need not have what they are made with."""
    for name in [name for name in sys.modules if name.startswith("apixo_async.batch.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "vl_convert", None)

    result = run("report", journal, "-o", tmp_path / "out")

    assert result.exit_code == exits.USAGE
    assert result.stderr.splitlines() == [
        "error: a report needs vl_convert",
        "  pip install 'apixo-async[report]'",
    ]


def test_a_batch_is_drawn_as_it_was_recorded(prompts: Path, tmp_path: Path) -> None:
    """A real one, from the first submit to the page."""
    journal, out = tmp_path / "run.db", tmp_path / "out"
    quick = ("--emulator", "--emulator-speed", "60")
    done = run("batch", prompts, "--journal", journal, "--save-to", tmp_path / "videos", *quick)
    assert done.exit_code == 0

    run("report", journal, "-o", out)

    page = (out / "index.html").read_text(encoding="utf-8")
    assert "It was an emulated APIXO" in page
    assert "Tasks that ran, or were being submitted, against how many might: 4 at most" in page
    assert "../videos/a.mp4" in page
