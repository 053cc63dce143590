"""Intake: stream a source, validate each row, and account for every one of them, a chunk to a transaction.

A killed intake goes on where its last chunk ended. The same file twice adds nothing.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from artifacts.blobs import BlobStore
from contracts.errors import BadInput
from contracts.floor import Floor, Flow
from contracts.lifecycle import Stage, lane_of
from pipeline.failpoints import failpoint
from pipeline.intake.arrivals import Arrival, Decisions, settle, settle_twins
from pipeline.intake.batch_book import Origin, Report, add_chunk, batch_of, end_batch, held_batch, rejects_of
from pipeline.intake.chunks import chunks, count, newest_of
from pipeline.intake.reading import read_row
from pipeline.intake.reject_limit import RejectLimit
from pipeline.intake.release import release_batch
from pipeline.intake.sources import BadRow, Row, Source
from pipeline.intake.sources.rejects import RejectsFile
from pipeline.intake.sources.validation import RowValidator
from pipeline.intake.storing import Target, known_to, store_chunk, write_rejects
from queues.database import Connection, pin_plans, transaction
from workcells.shapes.catalogue import Shape

if TYPE_CHECKING:
    from queues.doorbell import Doorbell

__all__ = ["Intake", "Report", "check", "take_in"]

_REJECTS_A_FLUSH = 1000
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

    @property
    def target(self) -> Target:
        """Where its rows are stored."""
        return Target(self.conn, self.store, self.workspace, self.flow, self.shape, self.pod_id, self.submitter)

    def report_progress(self, report: Report, source: Source) -> None:
        """Call `progress`, where somebody asked for it."""
        if self.progress:
            self.progress(report, source)


def check(intake: Intake, source: Source) -> Report:
    """Read, validate and compare a whole source and write nothing: what `--dry-run` prints and `--strict` asks first.

    Rows are compared with the orders that exist. Those that repeat each other inside the source, further apart than a chunk,
    are found only when they are taken in: that needs a memory of them all.
    """
    started, report = time.monotonic(), Report()
    with ExitStack() as stack:
        rejects = stack.enter_context(RejectsFile(intake.rejects)) if intake.rejects else None
        for chunk in chunks(source, intake.read):
            decisions: Decisions = {}
            with transaction(intake.conn, intake.workspace):
                older = settle(chunk, known_to(intake.target, chunk), decisions)
            settle_twins(chunk, decisions)
            write_rejects(rejects, chunk, decisions)
            add_chunk(report, count(chunk, decisions, superseded=len({order for order, _ in older})))
            intake.report_progress(report, source)
    report.seconds = time.monotonic() - started
    return report


def take_in(intake: Intake, source: Source, *, as_of: datetime | None = None) -> Report:
    """Take in every row of a source and return the account. Raises what ends it early; the chunks before it stay.

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
        store_chunk(intake.target, report, chunk, newest, rejects)
        failpoint("intake.chunk_committed")
        # A broker that is down is tried once: from there on the sweeper rings what is due.
        if intake.doorbell and intake.doorbell.is_up and not intake.flow.after_intake:
            intake.doorbell.ring([lane_of(Stage.ROUTE)])
        intake.report_progress(report, source)
        _hold_to_limit(intake, report, final=False)
    _hold_to_limit(intake, report, final=True)


def _hold_to_limit(intake: Intake, report: Report, *, final: bool) -> None:
    if intake.max_rejects and intake.max_rejects.is_passed(report.rejected, report.rows, final=final):
        raise BadInput(
            f"{report.rejected} of {report.rows} rows were rejected, more than the {intake.max_rejects} allowed: "
            f"stopped after row {report.rows}; the {report.accepted} accepted before stay",
            hint="fix the file and take it in again: rows that are in already count as duplicates",
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
    while True:
        with transaction(intake.conn, intake.workspace) as conn:
            released = release_batch(conn, batch_of(report), by=intake.submitter, note=note, most=_RELEASE_ROWS)
        if intake.doorbell and intake.doorbell.is_up and released:
            intake.doorbell.ring([lane_of(Stage.ROUTE)])
        if released < _RELEASE_ROWS:
            return
