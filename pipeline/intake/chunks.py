"""Chunks: what of a stream is decided and committed together, and what came of it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from pipeline.intake.arrivals import Arrival, instant
from pipeline.intake.batch_book import Report
from pipeline.intake.sources import BadRow, Row, Source

CHUNK_ROWS = 1000
CHUNK_BYTES = 8 * 1024 * 1024
_MOST_WAVES = 50


def chunks(source: Source, read: Callable[[Row | BadRow], Arrival], *, skip: int = 0) -> Iterator[list[Arrival]]:
    """Yield arrivals in chunks that are committed as one, each with its wave: a second revision has to find the first one stored."""
    chunk: list[Arrival] = []
    last_of: dict[str, Arrival] = {}
    size = 0
    for row in source.rows(skip=skip):
        arrival = read(row)
        last = last_of.get(arrival.subject_key)
        if len(chunk) >= CHUNK_ROWS or size >= CHUNK_BYTES or (last is not None and last.wave >= _MOST_WAVES):
            yield chunk
            chunk, last_of, size, last = [], {}, 0, None
        if last is not None:
            if (last.revision, last.sha256) == (arrival.revision, arrival.sha256):
                arrival.twin, arrival.wave = last, last.wave
            else:
                arrival.wave = last.wave + 1
        if arrival.subject_key and arrival.twin is None:
            last_of[arrival.subject_key] = arrival
        size += len(arrival.body)
        chunk.append(arrival)
    if chunk:
        yield chunk


def waves(chunk: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    """Yield a chunk in parts of different subjects, in the order in which they have to be stored."""
    last = max(arrival.wave for arrival in chunk)
    if not last:
        yield chunk
        return
    for number in range(last + 1):
        yield [arrival for arrival in chunk if arrival.wave == number]


def count(chunk: Sequence[Arrival], *, superseded: int) -> Report:
    """Return the account of one chunk."""
    done = Report(rows=len(chunk), superseded=superseded)
    for arrival in chunk:
        if arrival.outcome == "accepted":
            done.accepted += 1
            done.context += arrival.is_context
        elif arrival.outcome == "duplicate":
            done.duplicate += 1
        else:
            done.rejected += 1
            if len(done.first_rejects) < 5:
                done.first_rejects.append(arrival.as_reject())
    return done


def newest_of(newest: datetime | None, chunk: Sequence[Arrival]) -> datetime | None:
    """Return the latest revision that is a timestamp: the data's own now, from which ages count.

    One beyond tomorrow is a mistake in its row, and no reason to find all others old.
    """
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for arrival in chunk:
        at = instant(arrival.revision)
        if at is not None and at <= tomorrow and (newest is None or at > newest):
            newest = at
    return newest
