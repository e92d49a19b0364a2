"""The metrics of `Telemetry`: names, units, and buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""As the HTTP conventions advise."""
TASK_SECONDS: Final = (
    1,
    5,
    15,
    30,
    45,
    60,
    75,
    90,
    105,
    120,
    150,
    180,
    240,
    300,
    600,
    1_200,
    1_800,
)
"""Not those that the conventions for generative AI advise, which end where a video begins."""
DELAY_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 30, 60, 120)
WAIT_SECONDS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Instruments:
    """Made once for each `Telemetry`.

    None is read by a callback: two clients of one process would make the same instrument twice,
    and an SDK keeps the callback of the first alone.
    """

    def __init__(self, meter: Meter) -> None:
        self.request_duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=REQUEST_SECONDS,
        )
        self.task_duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="From a slot for a task to its end as it was seen.",
            explicit_bucket_boundaries_advisory=TASK_SECONDS,
        )
        self.tasks = meter.create_counter(
            "apixo.client.tasks", unit="{task}", description="Tasks and submits by outcome."
        )
        self.timeouts = meter.create_counter(
            "apixo.client.timeouts",
            unit="{wait}",
            description="Waits that were given up; their tasks went on.",
        )
        self.detection_delay = meter.create_histogram(
            "apixo.client.task.detection_delay",
            unit="s",
            description="From the end of a task at the server to when it was seen.",
            explicit_bucket_boundaries_advisory=DELAY_SECONDS,
        )
        self.token_wait = meter.create_histogram(
            "apixo.client.request.token_wait",
            unit="s",
            description="What requests waited for the request rate, an open gate, and their turn.",
            explicit_bucket_boundaries_advisory=WAIT_SECONDS,
        )
        self.pauses = meter.create_counter(
            "apixo.client.paused", unit="s", description="Seconds of pauses after 429."
        )
        self.running = meter.create_up_down_counter(
            "apixo.client.tasks.running",
            unit="{task}",
            description="Accepted tasks that were not seen to end.",
        )
        self.limit = meter.create_up_down_counter(
            "apixo.client.limit",
            unit="1",
            description="What is allowed of unfinished tasks, and of requests a minute.",
        )
