import json

from apixo_async.emulator.ledger import Ledger

KEYS = [
    "billed",
    "billed_total",
    "billed_twice",
    "cost_usd",
    "accepted",
    "rejected",
    "submits_seen",
    "requests_total",
    "requests",
    "peak_requests_per_window",
    "peak_unfinished",
    "unfinished",
    "throttled",
    "unauthorized",
    "finished",
    "files_served",
    "files_asked_with_key",
    "redirects_followed",
    "redirects_followed_with_key",
    "callbacks",
    "faults",
    "makespan_s",
    "bound_s",
]


def test_the_json_has_exactly_these_keys() -> None:
    """Programs that read the ledger find every number, also where nothing has happened."""
    shown = Ledger().as_dict()

    assert list(shown) == KEYS
    assert json.loads(json.dumps(shown)) == shown


def test_causes_are_listed_even_at_zero() -> None:
    """Who looks for a cause that did not occur finds 0, not nothing."""
    shown = Ledger().as_dict()

    assert shown["throttled"] == {"rate": 0, "concurrency": 0, "injected": 0}
    assert shown["requests"] == {"submit": 0, "status": 0, "balance": 0}
    assert shown["finished"] == {"success": 0, "failed": 0}
    assert shown["callbacks"] == {"delivered": 0, "failed": 0, "retried": 0}


def test_totals_follow_from_what_was_billed() -> None:
    """Accepted is billed, and a prompt billed more than once is named."""
    ledger = Ledger()
    ledger.billed.update(["a", "b", "b", "c", "c", "c"])

    assert ledger.accepted == ledger.billed_total == 6
    assert ledger.billed_twice == ["b", "c"]


def test_a_snapshot_stays() -> None:
    """What happens after it was taken does not show in a snapshot."""
    ledger = Ledger()
    ledger.billed["a"] += 1
    snapshot = ledger.snapshot()
    ledger.billed["a"] += 1
    ledger.files_served += 1

    assert (snapshot.billed["a"], snapshot.files_served) == (1, 0)
    assert (ledger.billed["a"], ledger.files_served) == (2, 1)


def test_reading_brings_up_to_date() -> None:
    """The numbers that depend on the clock are computed when somebody looks."""
    ledger = Ledger()

    def refresh() -> None:
        ledger.unfinished += 1

    ledger.refresh = refresh

    assert ledger.as_dict()["unfinished"] == 1
    assert ledger.snapshot().as_dict()["unfinished"] == 2
