"""What all tests of receivers have in common: a busy machine is not taken for a slow disk."""

import pytest

from apixo_async.webhooks import reception


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks are postponed only where a test says so."""
    monkeypatch.setattr(reception, "RECORD_SECONDS", 30.0)
