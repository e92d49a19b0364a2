"""What type checkers refuse. An ignore that one of the two does not need is an error of that one."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from apixo_async import (
    ApixoClient,
    BatchRunner,
    Limits,
    ReferenceToVideo,
    Task,
    TextToVideo,
    events,
)

URL = "https://example.com/a.png"


def requests() -> None:
    """A request that the API would refuse cannot be spelled."""
    TextToVideo("a fox", mode="slow")  # type: ignore[arg-type]
    TextToVideo("a fox", aspect_ratio="4:3")  # type: ignore[arg-type]
    TextToVideo("a fox", image_urls=[URL])  # type: ignore[call-arg]
    ReferenceToVideo("a fox", image_urls=[URL], mode="fast")  # type: ignore[call-arg]


def values(task: Task, event: events.Accepted) -> None:
    """What happened does not change."""
    task.id = "other"  # type: ignore[misc]
    event.task_id = "other"  # type: ignore[misc]
    Limits(1, 2)  # type: ignore[call-arg]


async def verbs(client: ApixoClient, task: Task) -> None:
    """Verbs want what they are about."""
    await client.generate("a fox")  # type: ignore[arg-type]
    await client.wait(task, "veo-3-1", 60)  # type: ignore[call-arg]
    await client.download("id", "videos")  # type: ignore[call-overload]
    client.balance() + 1  # type: ignore[operator]


def a_batch_hook(event: int) -> None:
    """Takes nothing that is ever told."""


def hooks(client: ApixoClient) -> None:
    """A hook takes events."""
    ApixoClient(on_event=a_batch_hook)  # type: ignore[arg-type]
    ApixoClient(on_event=[])  # type: ignore[arg-type]
    BatchRunner(client, on_event=a_batch_hook)  # type: ignore[arg-type]
    BatchRunner(client, uncertain="perhaps")  # type: ignore[arg-type]
