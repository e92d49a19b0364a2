"""What benchmarks ask for."""

from __future__ import annotations

from collections.abc import Iterator

from apixo_async import TextToVideo


def prompts(count: int) -> Iterator[TextToVideo]:
    """So many different prompts of a usual length."""
    for number in range(count):
        yield TextToVideo(
            f"A calm ocean turning into a storm, seen from a lighthouse, take {number}",
            mode="fast",
            aspect_ratio="16:9",
        )
