"""What failures mean, in sentences."""

from __future__ import annotations

import pytest

from apixo_async.batch.journal import JobState
from apixo_async.batch.meanings import may_help_again, meaning


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (JobState.FAILED, "CONTENT_VIOLATION", "Change the prompt"),
        (JobState.FAILED, "INVALID_IMAGE_URL", "could not read an image"),
        (JobState.FAILED, "INSUFFICIENT_CREDITS", "balance was empty"),
        (JobState.FAILED, "GENERATION_FAILED", "paid for again"),
        (JobState.FAILED, None, "without a result"),
        (JobState.REJECTED, "402", "the balance was empty. No task was made"),
        (JobState.REJECTED, "400", "did not accept the request"),
        (JobState.ABANDONED, None, "leave it at that"),
    ],
)
def test_a_failure_says_what_it_means(state: JobState, code: str | None, words: str) -> None:
    """In a sentence with what helps."""
    assert words in meaning(state, code)


@pytest.mark.parametrize(
    ("state", "code", "may_help"),
    [
        (JobState.FAILED, "CONTENT_VIOLATION", False),
        (JobState.FAILED, "GENERATION_FAILED", True),
        (JobState.FAILED, None, True),
        (JobState.REJECTED, "402", True),
        (JobState.ABANDONED, "CONTENT_VIOLATION", True),
    ],
)
def test_the_same_prompt_helps_unless_its_content_was_refused(
    state: JobState, code: str | None, may_help: bool
) -> None:
    """So nobody is advised to pay for the same refusal twice."""
    assert may_help_again(state, code) is may_help
