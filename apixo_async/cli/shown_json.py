"""An overview of a journal as JSON, for programs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from apixo_async.batch.journal.entries import JobState
from apixo_async.batch.journal.overview import Doubt, Expiry, Kind, Overview


def show_as_json(overview: Overview, *, journal: Path) -> dict[str, Any]:
    """An overview for programs; times are seconds or UTC, money US dollars, `null` is unknown."""
    return {
        "journal": str(journal),
        "at": overview.at.isoformat(),
        "owner": overview.owner,
        "has_crashed": overview.has_crashed,
        "jobs": overview.total,
        **{str(standing): number for standing, number in overview.counts.items()},
        "states": {str(state): overview.states.get(state, 0) for state in JobState},
        "submits": overview.submits,
        "retries": overview.retries,
        "not_sent": overview.not_sent,
        "charges": overview.charges,
        "cost_usd": None if overview.missing_prices else float(overview.known_cost),
        "known_cost_usd": float(overview.known_cost),
        "max_cost_usd": None if overview.max_cost is None else float(overview.max_cost),
        "is_capped": overview.is_capped,
        "missing_prices": list(overview.missing_prices),
        "recent_per_minute": round(overview.recent_rate, 3),
        "overall_per_minute": _rounded(overview.overall_rate),
        "kinds": [_kind_as_json(kind) for kind in overview.kinds],
        "failures": [
            {
                "state": str(one.state),
                "code": one.code,
                "reason": one.reason,
                "jobs": one.count,
                "keys": list(one.keys),
            }
            for one in overview.failures
        ],
        "uncertain_jobs": [_doubt_as_json(doubt) for doubt in overview.doubts],
        "doubled": overview.doubled_count,
        "doubled_jobs": [
            {
                "key": one.key,
                "task_id": one.task_id,
                "other_task_ids": list(one.others),
                "open_attempt": one.open_attempt,
            }
            for one in overview.doubled
        ],
        "save_to": overview.save_to,
        "not_saved": overview.unsaved,
        "expiring": overview.expiring_count,
        "expiring_jobs": [_expiry_as_json(one) for one in overview.expiring],
        "expired": overview.expired_count,
        "expired_jobs": [_expiry_as_json(one) for one in overview.expired],
    }


def _kind_as_json(kind: Kind) -> dict[str, Any]:
    times = kind.durations
    return {
        "model": kind.model,
        "mode": kind.mode,
        "jobs": kind.jobs,
        "charges": kind.charges,
        "price_usd": None if kind.price is None else float(kind.price),
        "cost_usd": None if kind.cost is None else float(kind.cost),
        "timed": 0 if times is None else times.count,
        "p50": None if times is None else times.p50,
        "p95": None if times is None else times.p95,
        "p99": None if times is None else times.p99,
    }


def _doubt_as_json(doubt: Doubt) -> dict[str, Any]:
    return {
        "key": doubt.key,
        "sent_at": _iso(doubt.sent_at),
        "phase": doubt.phase,
        "reason": doubt.reason,
        "received": doubt.received,
        "received_bytes": doubt.received_bytes,
        "candidate_task_id": doubt.candidate_task_id,
        "candidate_denied": doubt.candidate_denied,
        "attempts": doubt.attempts,
    }


def _expiry_as_json(expiry: Expiry) -> dict[str, Any]:
    return {"key": expiry.key, "expires_at": _iso(expiry.at)}


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
