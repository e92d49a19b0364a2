"""A video for each line of a text file: a batch that is called back, with a journal.

    pip install apixo-async
    python examples/callbacks.py prompts.txt

Videos go to `prompts.videos/`, and what happened to `prompts.db`. The same command again goes on
where it stopped, whatever ended it, and pays for nothing twice. It exits with 1 if anything is
without its video, and with 3 if somebody has to decide about a submit whose answer was lost
(`apixo settle prompts.db`).

It reads from the environment:

    APIXO_API_KEY
    APIXO_WEBHOOK_URL       where APIXO reaches this program: most often a proxy with TLS that
                            passes on to 127.0.0.1, for example https://hooks.example.com/apixo
    APIXO_WEBHOOK_SECRET    as from: python -c "import secrets; print(secrets.token_urlsafe())"
    PORT                    where the proxy passes on to, if it is not 8080
    APIXO_BASE_URL          if it is not APIXO itself, but an emulator
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from apixo_async import (
    ApixoClient,
    BatchRunner,
    InvalidRequestError,
    OutcomeStatus,
    TextToVideo,
    WebhookReceiver,
)


def requests_in(file: Path) -> list[TextToVideo]:
    """One for each line that is not empty."""
    requests: list[TextToVideo] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            if line.strip():
                requests.append(TextToVideo(line.strip(), mode="fast"))
        except InvalidRequestError as error:
            raise SystemExit(f"{file}:{number}: {error}; nothing was sent") from None
    return requests


async def main(requests: list[TextToVideo], *, journal: Path, save_to: Path) -> int:
    """Makes all videos; returns the exit code."""
    missing, uncertain = len(requests), 0
    # The secret must be the same the next time. With another one, callbacks of videos that are
    # under way look forged.
    receiver = WebhookReceiver(
        os.environ["APIXO_WEBHOOK_URL"], secret=os.environ["APIXO_WEBHOOK_SECRET"]
    )
    # In this order: it must be possible to call us back before the first submit leaves, and until
    # the client is closed.
    async with (
        receiver.serve(port=int(os.environ.get("PORT", "8080"))),
        ApixoClient(webhook=receiver) as client,
    ):
        runner = BatchRunner(client, journal=journal, save_to=save_to)
        # A supervisor that wants an end: nothing new is sent, what is running is still awaited.
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
        # What comes out here was asked of the API itself; callbacks only say when to ask.
        async with runner.stream(requests) as outcomes:
            async for outcome in outcomes:
                print(outcome.key, outcome.status, *outcome.urls, outcome.error or "")
                missing -= outcome.error is None  # a video that could not be saved has one, too
                uncertain += outcome.status is OutcomeStatus.UNCERTAIN

    told = receiver.statistics()
    print(f"{told.taken} callbacks; {told.forged} requests to URLs that nobody here has made")
    if uncertain:
        return 3
    return 1 if missing else 0


if __name__ == "__main__":
    prompts = Path(sys.argv[1])
    sys.exit(
        asyncio.run(
            main(
                requests_in(prompts),
                journal=prompts.with_suffix(".db"),
                save_to=prompts.with_suffix(".videos"),
            )
        )
    )
