"""Options as commands get them."""

from __future__ import annotations

from pathlib import Path

from apixo_async.cli.options import Options


def test_what_nobody_else_knows_has_to_be_said_again() -> None:
    """Where the API is and where its key is; all else is noted in a journal."""
    assert Options().again == ()
    assert Options(base_url="http://a", api_key_file=Path("-k"), requests_per_minute=3).again == (
        "--base-url",
        "http://a",
        "--api-key-file",
        "./-k",
    )
