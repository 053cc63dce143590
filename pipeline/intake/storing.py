"""Store a chunk of rows: decide each against what is known, make orders of what is new, all in one transaction.

Two intakes at once meet in the unique index on subject and revision: the later one reads again and decides again. A row that the
database refuses is found by halving its chunk, rejected, and holds back no other.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from artifacts.blobs import ROW_BYTES, BlobStore
from contracts.errors import Conflict, StoreUnavailable
from contracts.floor import Flow
from contracts.identity import new_ids
from pipeline.intake.arrivals import ACCEPTED, Arrival, Decision, Decisions, Known, first_move, known_orders, settle, settle_twins
from pipeline.intake.batch_book import Report, add_chunk, batch_of, note_chunk
from pipeline.intake.chunks import count, waves
from pipeline.intake.indexing import index_subjects
from pipeline.intake.sources.rejects import RejectsFile
from pipeline.intake.superseding import BeingApplied, supersede
from queues.admission import Entry, admit
from queues.database import Connection, is_connection_error, now, transaction
from workcells.shapes.catalogue import Shape

_TRIES = 8
_PATIENT_TRIES = 4
_TAKEN_MEANWHILE = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows are stored, and as whose."""

    conn: Connection
    store: BlobStore
    workspace: UUID
    flow: Flow
    shape: Shape
    pod_id: UUID
    submitter: str


def known_to(target: Target, arrivals: Sequence[Arrival]) -> dict[str, list[Known]]:
    """Return the orders that the subjects of these rows have."""
    return known_orders(target.conn, target.flow.name, (arrival.subject_key for arrival in arrivals if arrival.subject_key))


def store_chunk(target: Target, report: Report, chunk: Sequence[Arrival], as_of: datetime | None, rejects: RejectsFile | None) -> None:
    """Store a chunk and add its counts to the report. Raises Conflict when other intakes keep taking the same subjects."""
    for attempt in range(_TRIES):
        try:
            done = _write_chunk(target, report, chunk, as_of, rejects, patient=attempt < _PATIENT_TRIES)
        except _TAKEN_MEANWHILE:
            continue  # another intake took one of these subjects: decide again with what it stored
        except BeingApplied:
            time.sleep(0.25 * 2**attempt)
            continue
        except psycopg.Error as error:
            if is_connection_error(error):
                raise
            _store_without_refused(target, report, chunk, as_of, rejects, error)
            return
        add_chunk(report, done)
        return
    raise Conflict("other intakes keep taking the same subjects", hint="wait for them to end, then run the same command again")


def _store_without_refused(
    target: Target, report: Report, chunk: Sequence[Arrival], as_of: datetime | None, rejects: RejectsFile | None, error: psycopg.Error
) -> None:  # fmt: skip
    """Store a chunk of which the database refused a row: by halves, until that row is alone and can be rejected."""
    if len(chunk) > 1:
        middle = len(chunk) // 2
        for half in (chunk[:middle], chunk[middle:]):
            store_chunk(target, report, half, as_of, rejects)
        return
    if chunk[0].refusal is not None:
        raise error  # not the row but the record of its rejection is refused: that is no fault of the row
    message = f"the database refused it: {error.diag.message_primary or type(error).__name__}"[:300]
    refused = chunk[0]._replace(refusal=Decision("rejected", "intake.refused", message=message), subject_key="", revision="", body=b"")
    store_chunk(target, report, [refused], as_of, rejects)


def _write_chunk(
    target: Target, report: Report, chunk: Sequence[Arrival], as_of: datetime | None, rejects: RejectsFile | None, *, patient: bool
) -> Report:  # fmt: skip
    _store_large(target.store, chunk)
    decisions: Decisions = {}
    with transaction(target.conn, target.workspace):
        # Of one instant and in order over all waves: a later revision has the higher id.
        ids = iter(new_ids(2 * len(chunk), now(target.conn)))
        superseded = sum(_write_wave(target, report, wave, ids, decisions, patient=patient) for wave in waves(chunk))
        done = count(chunk, decisions, superseded=superseded)
        note_chunk(target.conn, report, done, as_of)
        # On disk before the commit: a kill in between leaves lines too many, which the next run drops, and never too few.
        write_rejects(rejects, chunk, decisions)
    return done


def _write_wave(
    target: Target, report: Report, wave: Sequence[Arrival], ids: Iterator[UUID], decisions: Decisions, *, patient: bool
) -> int:  # fmt: skip
    """Write rows of different subjects and return how many orders they superseded."""
    flow = target.flow
    older = settle(wave, known_to(target, wave), decisions)
    superseded = supersede(target.conn, older, decisions, by=target.submitter, patient=patient)
    accepted = [arrival for arrival in wave if arrival.twin_of is None and arrival.row_no not in decisions]
    for arrival in accepted:
        decisions[arrival.row_no] = Decision("accepted", order_id=next(ids), item_id=next(ids))
    settle_twins(wave, decisions)
    admit(
        target.conn,
        [_entry(arrival, decisions[arrival.row_no], holds=flow.after_intake) for arrival in wave],
        workspace=target.workspace,
        batch=batch_of(report),
        pod=target.pod_id,
        flow=flow.name,
        submitter=target.submitter,
    )
    if flow.index:
        index_subjects(target.conn, target.workspace, flow, target.shape, accepted)
    return superseded


def write_rejects(rejects: RejectsFile | None, chunk: Sequence[Arrival], decisions: Decisions) -> None:
    """Append the rejected rows of a chunk to the rejects file, where there is one."""
    if rejects is None:
        return
    for arrival in chunk:
        decision = decisions.get(arrival.row_no, ACCEPTED)
        if decision.outcome == "rejected":
            rejects.add(arrival.as_reject(decision))
    rejects.flush()


def _store_large(store: BlobStore, chunk: Sequence[Arrival]) -> None:
    for arrival in chunk:
        if len(arrival.body) > ROW_BYTES:
            try:
                store.put(arrival.body)
            except StoreUnavailable as error:
                hint = "free space or fix its permissions, then run the same command again: it goes on after the rows that are in"
                raise StoreUnavailable(error.message, hint=hint) from error


def _entry(a: Arrival, decision: Decision, *, holds: bool) -> Entry:
    body = a.body if decision.outcome == "accepted" and len(a.body) <= ROW_BYTES else None
    return Entry(
        a.row_no, a.line, a.byte_offset, decision.outcome, decision.code, decision.field, decision.message, a.subject_key, a.revision,
        decision.order_id, decision.item_id, a.sha256, body, a.goal, first_move(a, holds=holds).number,
    )  # fmt: skip
