"""Intake: stream a source, validate each row, and account for every one of them, a chunk to a transaction.

A killed intake goes on where its last chunk ended. The same file twice adds nothing. Two intakes at once meet in
the unique index on subject and revision: the later one reads again and decides again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg
from artifacts.blobs import ROW_BYTES, BlobStore
from contracts.errors import BadInput, Conflict
from contracts.floor import Floor, Flow
from contracts.identity import new_ids
from contracts.lifecycle import RELEASE, Stage, lane_of
from pipeline.failpoints import failpoint
from pipeline.intake.arrivals import Arrival, Known, first_move, known_orders, settle, settle_twins
from pipeline.intake.batch_book import Origin, Report, add_chunk, batch_of, end_batch, held_batch, note_chunk, rejects_of
from pipeline.intake.chunks import chunks, count, newest_of, waves
from pipeline.intake.indexing import index_subjects
from pipeline.intake.reading import read_row
from pipeline.intake.reject_limit import RejectLimit
from pipeline.intake.sources import BadRow, Row, Source
from pipeline.intake.sources.rejects import RejectsFile
from pipeline.intake.sources.validation import RowValidator
from pipeline.intake.superseding import BeingApplied, supersede
from queues.admission import Entry, admit
from queues.database import Connection, now, pin_plans, transaction
from queues.mover import Planned, Route, perform
from workcells.shapes.catalogue import Shape

if TYPE_CHECKING:
    from queues.doorbell import Doorbell

__all__ = ["Intake", "Report", "check", "take_in"]

_REJECTS_A_FLUSH = 1000
_TRIES = 8
_PATIENT_TRIES = 4
_RELEASE_ROWS = 5000


@dataclass(frozen=True, slots=True)
class Intake:
    """Everything that one intake needs, but the source."""

    conn: Connection
    store: BlobStore
    workspace: UUID
    floor_id: UUID
    floor: Floor
    flow: Flow
    pod_id: UUID
    shape: Shape
    validator: RowValidator
    submitter: str
    doorbell: "Doorbell | None" = None
    rejects: str | None = None
    """Path of the rejects file to write."""
    progress: Callable[[Report, Source], None] | None = None
    max_rejects: RejectLimit | None = None

    def read(self, row: Row | BadRow) -> Arrival:
        """Return a row as what it is in this flow, or with the code for which it is rejected."""
        return read_row(row, self.flow, self.shape, self.validator)

    def tell(self, report: Report, source: Source) -> None:
        """Say how far it is, to whoever asked."""
        if self.progress:
            self.progress(report, source)


def check(intake: Intake, source: Source) -> Report:
    """Read, validate and compare a whole source and write nothing: what `--dry-run` prints and `--strict` asks first.

    Rows are compared with the orders that exist. Those that repeat each other inside the source are told apart
    only when they are taken in: that needs a memory of them all.
    """
    started, report = time.monotonic(), Report()
    with ExitStack() as stack:
        rejects = stack.enter_context(RejectsFile(intake.rejects)) if intake.rejects else None
        for chunk in chunks(source, intake.read):
            with transaction(intake.conn, intake.workspace):
                older = settle(chunk, _known(intake, chunk))
            settle_twins(chunk)
            _write_rejects(rejects, chunk)
            add_chunk(report, count(chunk, superseded=len({order for order, _ in older})))
            intake.tell(report, source)
    report.seconds = time.monotonic() - started
    return report


def take_in(intake: Intake, source: Source, *, as_of: datetime | None = None) -> Report:
    """Take in every row of a source and return the account. Raises what ends it early; the chunks before stand.

    Ages count from `as_of`, by default the newest revision in the source.
    """
    started = time.monotonic()
    pin_plans(intake.conn)
    origin = Origin(intake.workspace, intake.flow.name, intake.floor_id, source.name, source.identity, intake.submitter)
    with ExitStack() as stack:
        # Opened before there is a batch: a file that cannot hold rejects stops an intake before it began.
        rejects = stack.enter_context(RejectsFile(intake.rejects, after_row=10**18)) if intake.rejects else None
        report = stack.enter_context(held_batch(intake.conn, origin))
        if rejects:
            _settle_rejects(intake, rejects, report)
        try:
            _take_chunks(intake, source, report, rejects, as_of)
        except BadInput as error:
            _end(intake, report, source, "failed", str(error))
            raise
        failpoint("intake.complete")
        _end(intake, report, source, "complete", "")
    report.seconds = time.monotonic() - started
    return report


def _take_chunks(intake: Intake, source: Source, report: Report, rejects: RejectsFile | None, as_of: datetime | None) -> None:
    newest = as_of
    for chunk in chunks(source, intake.read, skip=report.resumed_at):
        if as_of is None:
            newest = newest_of(newest, chunk)
        _take_chunk(intake, report, chunk, newest, rejects)
        failpoint("intake.chunk_committed")
        # A broker that is down is told once: from there on the sweeper rings what is due.
        if intake.doorbell and intake.doorbell.is_up and not intake.flow.after_intake:
            intake.doorbell.ring([lane_of(Stage.ROUTE)])
        intake.tell(report, source)
        _hold_to_limit(intake, report, final=False)
    _hold_to_limit(intake, report, final=True)


def _hold_to_limit(intake: Intake, report: Report, *, final: bool) -> None:
    if intake.max_rejects and intake.max_rejects.is_passed(report.rejected, report.rows, final=final):
        raise BadInput(
            f"{report.rejected} of {report.rows} rows were rejected, more than the {intake.max_rejects} allowed: "
            f"stopped after row {report.rows}; the {report.accepted} accepted before stand",
            hint="mend the file and take it in again: rows that are in already count as duplicates",
            code="intake.too_many_rejects",
        )


def _settle_rejects(intake: Intake, rejects: RejectsFile, report: Report) -> None:
    """Make the file hold exactly the rejects up to where this intake goes on from."""
    rejects.keep(report.resumed_at)
    if rejects.count != report.rejected:
        # Another file than the killed intake wrote, or none: the database knows all but the rows' text.
        rejects.keep(0)
        for bad in rejects_of(intake.conn, intake.workspace, batch_of(report)):
            rejects.add(bad)
            if rejects.count % _REJECTS_A_FLUSH == 0:
                rejects.flush()
        rejects.flush()


def _take_chunk(intake: Intake, report: Report, chunk: Sequence[Arrival], as_of: datetime | None, rejects: RejectsFile | None) -> None:
    for attempt in range(_TRIES):
        for arrival in chunk:
            arrival.reopen()
        try:
            done = _write_chunk(intake, report, chunk, as_of, rejects, patient=attempt < _PATIENT_TRIES)
        except (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected):
            continue  # another intake took one of these subjects: decide again with what it stored
        except BeingApplied:
            time.sleep(0.25 * 2**attempt)
            continue
        add_chunk(report, done)
        return
    raise Conflict("other intakes keep taking the same subjects", hint="wait for them to end, then run the same command again")


def _write_chunk(
    intake: Intake, report: Report, chunk: Sequence[Arrival], as_of: datetime | None, rejects: RejectsFile | None, *, patient: bool
) -> Report:
    _store_large(intake, chunk)
    with transaction(intake.conn, intake.workspace):
        # Of one instant and in order over all waves: a later revision has the higher id.
        ids = iter(new_ids(2 * len(chunk), now(intake.conn)))
        superseded = sum(_write_wave(intake, report, wave, ids, patient=patient) for wave in waves(chunk))
        done = count(chunk, superseded=superseded)
        note_chunk(intake.conn, report, done, as_of)
        # On disk before the commit: a kill in between leaves lines too many, which the next run drops, and never too few.
        _write_rejects(rejects, chunk)
    return done


def _write_wave(intake: Intake, report: Report, wave: Sequence[Arrival], ids: Iterator[UUID], *, patient: bool) -> int:
    """Write rows of different subjects and return how many orders they superseded."""
    conn, flow = intake.conn, intake.flow
    older = settle(wave, _known(intake, wave))
    superseded = supersede(conn, older, by=intake.submitter, patient=patient)
    accepted = [arrival for arrival in wave if arrival.outcome == "accepted" and arrival.twin is None]
    for arrival in accepted:
        arrival.order_id, arrival.item_id = next(ids), next(ids)
    settle_twins(wave)
    admit(
        conn,
        [_entry(arrival, holds=flow.after_intake) for arrival in wave],
        workspace=intake.workspace,
        batch=batch_of(report),
        pod=intake.pod_id,
        flow=flow.name,
        submitter=intake.submitter,
    )
    if flow.index:
        index_subjects(conn, intake.workspace, flow, intake.shape, accepted)
    return superseded


def _known(intake: Intake, wave: Sequence[Arrival]) -> dict[str, list[Known]]:
    return known_orders(intake.conn, intake.flow.name, (arrival.subject_key for arrival in wave if arrival.subject_key))


def _write_rejects(rejects: RejectsFile | None, chunk: Sequence[Arrival]) -> None:
    if rejects:
        for arrival in chunk:
            if arrival.outcome == "rejected":
                rejects.add(arrival.as_reject())
        rejects.flush()


def _store_large(intake: Intake, chunk: Sequence[Arrival]) -> None:
    for arrival in chunk:
        if arrival.outcome == "accepted" and len(arrival.body) > ROW_BYTES:
            intake.store.put(arrival.body)


def _entry(a: Arrival, *, holds: bool) -> Entry:
    body = a.body if a.outcome == "accepted" and len(a.body) <= ROW_BYTES else None
    return Entry(
        a.row_no, a.line, a.byte_offset, a.outcome, a.code, a.field, a.message, a.subject_key, a.revision, a.order_id, a.item_id,
        a.sha256, body, a.goal, first_move(a, holds=holds).number,
    )  # fmt: skip


def _end(intake: Intake, report: Report, source: Source, state: str, error: str) -> None:
    """Record how the batch ended, then start what waited for it. The sweeper does the same for an intake that died here."""
    if intake.flow.index and report.accepted:
        with transaction(intake.conn, intake.workspace) as conn:
            conn.execute("SELECT refresh_lexicon(%s, %s)", [intake.workspace, intake.flow.name])
    end_batch(intake.conn, intake.workspace, report, state=state, error=error, sha256=source.sha256)
    if intake.flow.after_intake:
        _release(intake, report, "its batch is complete" if state == "complete" else "its batch ended early")
    if intake.doorbell:
        intake.doorbell.ring([lane_of(Stage.ROUTE)])


def _release(intake: Intake, report: Report, note: str) -> None:
    route = Route((RELEASE,), lane_of(Stage.ROUTE), (note,))
    while True:
        with transaction(intake.conn, intake.workspace) as conn:
            rows = conn.execute(
                "SELECT item_id, fence FROM queue WHERE wait = 'dependency' AND waiting_on = %s "
                "ORDER BY item_id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED",
                [f"batch {report.batch_id}", _RELEASE_ROWS],
            ).fetchall()
            perform(conn, (Planned(item, fence, route) for item, fence in rows), by=intake.submitter)
        if intake.doorbell and intake.doorbell.is_up and rows:
            intake.doorbell.ring([lane_of(Stage.ROUTE)])
        if len(rows) < _RELEASE_ROWS:
            return
