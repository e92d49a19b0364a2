"""When to look at a task: the documented schedule, and one that learns where tasks end."""

from apixo_async.polling.ends import Ends
from apixo_async.polling.pacing import Look, Pacer
from apixo_async.polling.schedules import (
    DEADLINE,
    DOCUMENTED_SHARE,
    FIRST_POLL,
    POLL_INTERVAL,
    LearnedSchedule,
    PollSchedule,
    next_look,
    stretched_interval,
)

__all__ = [
    "DEADLINE",
    "DOCUMENTED_SHARE",
    "FIRST_POLL",
    "POLL_INTERVAL",
    "Ends",
    "LearnedSchedule",
    "Look",
    "Pacer",
    "PollSchedule",
    "next_look",
    "stretched_interval",
]
