"""Values to requests; answers to values or errors. The only place that knows the API's JSON."""

from apixo_async._wire.answers import (
    means_no_credits,
    read_balance,
    read_task,
    read_task_id,
    task_failure,
)
from apixo_async._wire.callbacks import Claim, read_claim
from apixo_async._wire.envelope import Reply, unwrap
from apixo_async._wire.requests import (
    BALANCE_PATH,
    encode,
    fingerprint,
    prepare,
    request_input,
    status_path,
    submit_body,
    submit_path,
)
from apixo_async._wire.rows import ROW_FIELDS, request_from_row
from apixo_async._wire.text import (
    EXCERPT_CHARACTERS,
    candidate_task_id,
    excerpt,
    http_date,
    task_ids_in,
)

__all__ = [
    "BALANCE_PATH",
    "EXCERPT_CHARACTERS",
    "ROW_FIELDS",
    "Claim",
    "Reply",
    "candidate_task_id",
    "encode",
    "excerpt",
    "fingerprint",
    "http_date",
    "means_no_credits",
    "prepare",
    "read_balance",
    "read_claim",
    "read_task",
    "read_task_id",
    "request_from_row",
    "request_input",
    "status_path",
    "submit_body",
    "submit_path",
    "task_failure",
    "task_ids_in",
    "unwrap",
]
