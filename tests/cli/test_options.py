"""Options as commands get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from apixo_async.cli.options import Options
from tests.cli.conftest import run


def test_what_nobody_else_knows_has_to_be_said_again() -> None:
    """Where the API is and where its key is; all else is noted in a journal."""
    assert Options().again == ()
    assert Options(base_url="http://a", api_key_file=Path("-k"), requests_per_minute=3).again == (
        "--base-url",
        "http://a",
        "--api-key-file",
        "./-k",
    )


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(("wait", "t", "--deadline"), "number"), (("plan", "f", "--max-jobs"), "whole number")],
)
def test_what_is_no_number_is_said_in_plain_words(arguments: tuple[str, ...], kind: str) -> None:
    """The names that the parser has for its types are not shown."""
    result = run(*arguments, "abc")

    assert result.exit_code == 2
    assert f"'abc' is not a valid {kind}" in result.stderr
    assert "range" not in result.stderr
