"""Chunks: what of a stream is decided and committed together, and what came of it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from contracts.instants import instant
from pipeline.intake.arrivals import ACCEPTED, Arrival, Decisions
from pipeline.intake.batch_book import FIRST_REJECTS, Report
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
        if last is not None and (last.revision, last.sha256) == (arrival.revision, arrival.sha256):
            arrival = arrival._replace(twin_of=last.row_no, wave=last.wave)
        elif last is not None:
            arrival = arrival._replace(wave=last.wave + 1)
        if arrival.subject_key and arrival.twin_of is None:
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
        if wave := [arrival for arrival in chunk if arrival.wave == number]:
            yield wave


def count(chunk: Sequence[Arrival], decisions: Decisions, *, superseded: int) -> Report:
    """Return the account of one chunk."""
    done = Report(rows=len(chunk), superseded=superseded)
    for arrival in chunk:
        decision = decisions.get(arrival.row_no, ACCEPTED)
        if decision.outcome == "accepted":
            done.accepted += 1
            done.context += arrival.is_context
        elif decision.outcome == "duplicate":
            done.duplicate += 1
        else:
            done.rejected += 1
            if len(done.first_rejects) < FIRST_REJECTS:
                done.first_rejects.append(arrival.as_reject(decision))
    return done


def newest_of(newest: datetime | None, chunk: Sequence[Arrival]) -> datetime | None:
    """Return the latest revision that is a timestamp: the data's own now, from which ages count."""
    for arrival in chunk:
        if arrival.refusal is None and (at := instant(arrival.revision)) is not None and (newest is None or at > newest):
            newest = at
    return newest
