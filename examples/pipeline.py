"""A step of a data pipeline: a table of prompts goes in, the same table with receipts comes out.

    pip install apixo-async              # and pyarrow, for tables that are Parquet
    python examples/pipeline.py prompts.csv receipts.csv videos/
    python examples/pipeline.py prompts.parquet receipts.parquet s3://bucket/prefix

The table has the columns `id` and `prompt`, and `mode` if it likes. Receipts have a row for each of
its rows: `id`, `status`, `task_id`, `file`, `size`, `sha256`, `error`. They appear when they are
complete. Both are read and written in pieces: of a million rows only the ids are held in memory.

The same command again goes on where it stopped, whatever ended it: what happened is in
`receipts.db`. It exits with 0 if every row has its video, with 1 if not, with 2 if the table is
wrong, in which case nothing was sent, and with 3 if somebody has to decide about a submit whose
answer was lost (`apixo settle receipts.db`).

It reads from the environment:

    APIXO_API_KEY
    APIXO_BASE_URL    if it is not APIXO itself, but an emulator
"""

import asyncio
import csv
import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apixo_async import (
    ApixoClient,
    ApixoError,
    BatchRunner,
    InvalidRequestError,
    Job,
    Outcome,
    OutcomeStatus,
    TextToVideo,
)

Write = Callable[[Mapping[str, Any]], object]
COLUMNS = ("id", "status", "task_id", "file", "size", "sha256", "error")


# Tables


def rows_of(table: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a table, a piece at a time."""
    if table.suffix == ".parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(table) as file:
            for piece in file.iter_batches(1_000):
                yield from piece.to_pylist()
        return
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@contextmanager
def writing(table: Path) -> Generator[Write]:
    """Takes rows for a table, which appears, or is replaced, when all have come."""
    part = table.with_name(f"{table.name}.part")
    opened = _parquet if table.suffix == ".parquet" else _csv
    try:
        with opened(part) as write:
            yield write
        part.replace(table)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _csv(path: Path) -> Generator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        yield lambda row: writer.writerow([row[name] for name in COLUMNS])


@contextmanager
def _parquet(path: Path) -> Generator[Write]:
    import pyarrow as pa
    from pyarrow import parquet

    fields = [(name, pa.int64() if name == "size" else pa.string()) for name in COLUMNS]
    schema = pa.schema(fields)
    held: list[Mapping[str, Any]] = []
    with parquet.ParquetWriter(path, schema) as writer:

        def write(row: Mapping[str, Any] | None) -> None:
            if row is not None:
                held.append(row)
            if held and (row is None or len(held) == 1_000):
                writer.write_table(pa.Table.from_pylist(held, schema=schema))
                held.clear()

        yield write
        write(None)


# Jobs and receipts


def job_of(row: Mapping[str, Any]) -> Job:
    """The job of a row. Its key is the row's id: it names the video, and is paid for once."""
    return Job(TextToVideo(row["prompt"], mode=row.get("mode") or "fast"), key=str(row["id"]))


def problems_of(table: Path) -> Iterator[str]:
    """Everything that is wrong with a table, before anything is sent."""
    ids: set[str] = set()
    for number, row in enumerate(rows_of(table), 1):
        try:
            key = job_of(row).key
        except KeyError as error:
            yield f"row {number}: there is no column {error}"
            return
        except (InvalidRequestError, TypeError, ValueError) as error:
            yield f"row {number}: {error}"
            continue
        if key in ids:
            yield f"row {number}: the id {key} is there twice"
        ids.add(str(key))


def receipt_of(outcome: Outcome) -> dict[str, Any]:
    """What became of a row."""
    file = outcome.files[0] if outcome.files else None
    return {
        "id": outcome.key,
        "status": str(outcome.status),
        "task_id": None if outcome.task is None else outcome.task.id,
        "file": None if file is None else str(file),
        "size": None if file is None else file.size,
        "sha256": None if file is None else file.sha256,
        "error": None if outcome.error is None else str(outcome.error),
    }


class StoppedError(Exception):
    """The batch stopped before the end of the table: there are no receipts yet."""


async def run(table: Path, receipts: Path, save_to: str) -> Counter[str]:
    """Makes all videos; counts what became of the rows. Receipts come in order of completion."""
    counts: Counter[str] = Counter()
    jobs = map(job_of, rows_of(table))  # pulled as there is room, never all at once
    async with ApixoClient() as client:
        runner = BatchRunner(client, journal=receipts.with_suffix(".db"), save_to=save_to)
        # A scheduler that wants an end: no new rows, but what is running, and paid, is awaited.
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runner.stop)
        with writing(receipts) as write:
            async with runner.stream(jobs) as outcomes:
                async for outcome in outcomes:
                    write(receipt_of(outcome))
                    is_whole = outcome.status is OutcomeStatus.SUCCEEDED and outcome.files
                    counts["saved" if is_whole else str(outcome.status)] += 1
            if outcomes.stopped is not None:
                raise StoppedError(outcomes.stop_error or outcomes.stopped)
    return counts


def main() -> int:
    """The whole step."""
    table, receipts, save_to = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    problems = list(problems_of(table))
    if problems:
        print(*problems, "nothing was sent", sep="\n", file=sys.stderr)
        return 2
    try:
        counts = asyncio.run(run(table, receipts, save_to))
    except ApixoError as error:  # no key, a journal in use, a place that nothing can be saved to
        print(f"nothing was done: {error}", file=sys.stderr)
        return 2
    except StoppedError as error:
        print(f"stopped early: {error}; the same command goes on", file=sys.stderr)
        return 1
    print(", ".join(f"{number} {name}" for name, number in counts.most_common()))
    if counts[OutcomeStatus.UNCERTAIN]:
        return 3
    return 0 if set(counts) <= {"saved"} else 1


if __name__ == "__main__":
    sys.exit(main())
