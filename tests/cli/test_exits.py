from __future__ import annotations

from typing import Any

import pytest

from apixo_async.cli.exits import batch_exit


@pytest.mark.parametrize(
    ("counts", "more", "code"),
    [
        pytest.param({"succeeded": 3}, {}, 0, id="all succeeded"),
        pytest.param({}, {}, 0, id="nothing to do"),
        pytest.param({"succeeded": 3, "failed": 0}, {}, 0, id="zero counts do not count"),
        pytest.param({"succeeded": 3, "failed": 1}, {}, 1, id="one failed"),
        pytest.param({"timed_out": 1}, {}, 1, id="one timed out"),
        pytest.param({"not_started": 1}, {}, 1, id="one not started"),
        pytest.param({"still_running": 1}, {}, 1, id="one still running"),
        pytest.param({"succeeded": 3}, {"not_saved": 1}, 1, id="one not saved"),
        pytest.param({"uncertain": 1, "failed": 5}, {}, 3, id="uncertain outweighs failed"),
        pytest.param({"not_started": 9}, {"stopped": "key"}, 4, id="the key was refused"),
        pytest.param({"not_started": 9}, {"stopped": "balance"}, 4, id="the balance is empty"),
        pytest.param({"uncertain": 1}, {"stopped": "key"}, 4, id="the key outweighs uncertain"),
        pytest.param({"not_started": 9}, {"stopped": "unreachable"}, 1, id="host out of reach"),
        pytest.param({"succeeded": 1}, {"stopped": "input"}, 1, id="the input broke off"),
        pytest.param({"succeeded": 1}, {"signal": 2}, 130, id="Ctrl-C"),
        pytest.param({"uncertain": 1}, {"signal": 15, "stopped": "key"}, 143, id="SIGTERM"),
    ],
)
def test_batch_exit_is_the_highest_that_applies(
    counts: dict[str, int], more: dict[str, Any], code: int
) -> None:
    """Of all exit codes that apply to a batch, it ends with the highest."""
    assert batch_exit(counts, **more) == code
