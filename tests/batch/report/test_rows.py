"""What a page knows of one job: plain values that are safe to show and to link to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from apixo_async.batch.report.advice import Commands
from apixo_async.batch.report.gathering import Rows
from apixo_async.batch.report.page import policy
from apixo_async.batch.report.rows import origin_of, path_url


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://r2.apixo.ai/a.mp4?x=1", "https://r2.apixo.ai"),
        ("http://127.0.0.1:8080/a.mp4", "http://127.0.0.1:8080"),
        ("javascript:alert(1)", None),
        ("JAVASCRIPT:alert(1)//https://a", None),
        ("data:text/html,<script>", None),
        ("file:///etc/passwd", None),
        ("//host/a.mp4", None),
        ("https:///a.mp4", None),
        ("https://user:word@host/a.mp4", None),
        ("https://a;script-src *//a.mp4", None),
        ("https://a b/c.mp4", None),
        ("https://a/\u202egpm.4", None),
        ("https://a/b\n", None),
        ("https://[::1", None),
        ("https://a/" + "b" * 5_000, None),
    ],
)
def test_only_plain_web_addresses_may_be_linked(url: str, origin: str | None) -> None:
    """And their host is fit to stand in the page's policy."""
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "name",
    [
        b"a.mp4",
        b"javascript:alert(1).mp4",
        b"a#b?c%20d&e\"'<f>.mp4",
        "\u202e\u2028.mp4".encode(),
        b"no-utf8-\xff.mp4",
    ],
)
def test_a_file_is_reached_whatever_its_name_is(name: bytes, tmp_path: Path) -> None:
    """By a relative path that no browser takes for anything else."""
    path = tmp_path / "videos" / os.fsdecode(name)

    url = path_url(path, tmp_path / "report")

    assert url.startswith("../videos/")
    assert url.isascii()
    assert not set(url) & set(":#?\"'<>& ")
    assert unquote_to_bytes(url) == b"../videos/" + name


def test_rows_cannot_end_the_element_they_stand_in(tmp_path: Path) -> None:
    """They are JSON all the same, and come in lists."""
    row = ["</script><!--<script>", "\u2028\x00\ud83d&'\"\n", 1, None, ["é"]]
    with (tmp_path / "rows").open("w+", encoding="utf-8", newline="\n") as file:
        rows = Rows(file)
        for _ in range(1_500):
            rows.add(row)
        blocks = list(rows.blocks())

    assert [len(json.loads(block)) for block in blocks] == [1_000, 500]
    assert json.loads(blocks[0])[0] == row
    assert not any(set(block) & set("<>&'") for block in blocks)
    assert all(block.isascii() and block.isprintable() for block in blocks)


def test_the_policy_forbids_all_but_what_the_page_needs() -> None:
    """Its own style and script by their hashes, and films from disk and from where they are."""
    rules = dict(
        rule.split(" ", 1)
        for rule in policy(["https://a"], style="b {}", script="c();").split("; ")
    )

    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["media-src"] == rules["img-src"] == "'self' file: https://a"
    assert rules["script-src"] == "'sha256-nlu9ZBvJ+wB3I12hxjx95oGj6duVkV4c7dYmUIsC7QQ='"
    assert rules["style-src"].startswith("'sha256-")


def test_a_policy_does_not_grow_with_the_hosts_of_results() -> None:
    """From so many on, any web host may serve films."""
    found = policy([f"https://host-{number}" for number in range(21)], style="", script="")

    assert "media-src 'self' file: https: http:;" in found


def test_commands_work_in_any_directory_and_for_any_key() -> None:
    """They hold the journal's whole path, and are quoted for a shell."""
    commands = Commands(Path("/a b/run.db"), save_to=None)

    assert commands.save.line == "apixo resume '/a b/run.db' --save-to DIR"
    assert Commands(Path("/r.db"), save_to="videos").save.line == "apixo resume /r.db"
    assert commands.again("-k'").line == "apixo settle --resubmit -- '/a b/run.db' '-k'\"'\"''"
