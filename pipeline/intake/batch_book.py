"""The row of a batch while its source is read: its counts, who is writing it, and where a killed intake goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row
from contracts.errors import Conflict
from contracts.identity import new_id
from pipeline.intake.sources import BadRow
from queues.database import Connection, one_value, transaction

FIRST_REJECTS = 5
_LET_GO_SECONDS = 1.0
"""The server needs a moment to notice that a killed intake is gone."""


@dataclass(slots=True)
class Report:
    """The account of one intake; `rows` is the sum of accepted, rejected and duplicate."""

    batch_id: UUID | None = None
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    context: int = 0
    superseded: int = 0
    resumed_at: int = 0
    """Rows that an intake of the same source had done before it was killed."""
    first_rejects: list[BadRow] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Origin:
    """What a batch comes from and who submits it."""

    workspace: UUID
    flow: str
    floor_id: UUID
    source: str
    identity: str | None
    """Equal for the same unchanged file read in the same way; None for a stream, which cannot be read again."""
    submitter: str


_READING = """
SELECT id
  FROM batches
 WHERE workspace_id = %s
   AND flow = %s
   AND source_identity = %s
   AND floor_id = %s
   AND state = 'reading'
 ORDER BY created_at DESC
 LIMIT 3
"""
_COUNTS = """
SELECT id AS batch_id, rows_read AS rows, accepted, rejected, duplicate, context, superseded, rows_read AS resumed_at
  FROM batches
 WHERE id = %s
   AND state = 'reading'
"""
_REJECTS = """
SELECT row_no, line, byte_offset, code, field, message, '' AS excerpt
  FROM batch_rows
 WHERE batch_id = %s
   AND outcome = 'rejected'
   AND row_no > %s
 ORDER BY row_no
 LIMIT %s
"""


@contextmanager
def held_batch(conn: Connection, origin: Origin) -> Iterator[Report]:
    """Yield the account of a batch that is this intake's alone: one left by a killed intake of the same source, or a new one.

    The hold is a lock of the session, so it ends with the process whatever ends that. It only says who lives: what keeps two
    writers apart is `note_chunk`.
    """
    report = _resume(conn, origin) or _begin(conn, origin)
    try:
        yield report
    finally:
        if not conn.closed and not conn.broken:
            conn.execute("SELECT pg_advisory_unlock(%s)", [_key(batch_of(report))])


def batch_of(report: Report) -> UUID:
    """Return the id of the batch that an account belongs to."""
    assert report.batch_id is not None
    return report.batch_id


def _key(batch: UUID) -> int:
    """Return the number that a batch is locked by."""
    return batch.int % 2**63


def _resume(conn: Connection, origin: Origin) -> Report | None:
    if origin.identity is None:
        return None
    with transaction(conn, origin.workspace):
        left = conn.execute(_READING, [origin.workspace, origin.flow, origin.identity, origin.floor_id]).fetchall()
    deadline = time.monotonic() + _LET_GO_SECONDS
    for (batch,) in left:
        if not _hold(conn, batch, until=deadline):
            continue  # its intake lives: ours is another batch, and its rows will be duplicates
        with transaction(conn, origin.workspace):
            # Read under the hold: its writer may have ended it in between.
            report = conn.cursor(row_factory=class_row(Report)).execute(_COUNTS, [batch]).fetchone()
            if report is not None:
                report.first_rejects = conn.cursor(row_factory=class_row(BadRow)).execute(_REJECTS, [batch, 0, FIRST_REJECTS]).fetchall()
                return report
        conn.execute("SELECT pg_advisory_unlock(%s)", [_key(batch)])
    return None


def _hold(conn: Connection, batch: UUID, *, until: float) -> bool:
    while True:
        if one_value(conn, "SELECT pg_try_advisory_lock(%s)", [_key(batch)]):
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.05)


STREAM = "stream"
"""How the identity of a batch begins whose source cannot be read again."""
_NEW_TRIGGER = "INSERT INTO triggers (id, workspace_id, kind, source, actor) VALUES (%s, %s, 'batch', %s, %s)"
_NEW_BATCH = """
INSERT INTO batches (id, workspace_id, trigger_id, floor_id, flow, source, source_identity, submitter)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


def _begin(conn: Connection, origin: Origin) -> Report:
    trigger, batch = new_id(), new_id()
    conn.execute("SELECT pg_advisory_lock(%s)", [_key(batch)])
    with transaction(conn, origin.workspace):
        conn.execute(_NEW_TRIGGER, [trigger, origin.workspace, origin.source, origin.submitter])
        identity = origin.identity or f"{STREAM} {batch}"
        conn.execute(
            _NEW_BATCH,
            [batch, origin.workspace, trigger, origin.floor_id, origin.flow, origin.source, identity, origin.submitter],
        )
    return Report(batch)


def rejects_of(conn: Connection, workspace: UUID, batch: UUID) -> Iterator[BadRow]:
    """Yield the rejected rows of a batch in order, from the database: all that is known of them but their text."""
    after = 0
    while True:
        with transaction(conn, workspace):
            page = conn.cursor(row_factory=class_row(BadRow)).execute(_REJECTS, [batch, after, 1000]).fetchall()
        yield from page
        if len(page) < 1000:
            return
        after = page[-1].row_no


# Counts on from where this intake believes the batch to be: of two writers, one finds no such row.
_NOTE = """
UPDATE batches
   SET rows_read = rows_read + %s,
       accepted = accepted + %s,
       rejected = rejected + %s,
       duplicate = duplicate + %s,
       context = context + %s,
       superseded = superseded + %s,
       as_of = greatest(as_of, %s),
       read_at = clock()
 WHERE id = %s
   AND state = 'reading'
   AND rows_read = %s
"""


def note_chunk(conn: Connection, report: Report, done: Report, as_of: datetime | None) -> None:
    """Add a chunk's counts to its batch, in the chunk's own transaction. Raises Conflict when the batch has gone on without us."""
    counts = [done.rows, done.accepted, done.rejected, done.duplicate, done.context, done.superseded]
    if conn.execute(_NOTE, [*counts, as_of, report.batch_id, report.rows], prepare=True).rowcount:
        return
    seen = (
        one_value(conn, "SELECT format('is %%s at row %%s', state, rows_read) FROM batches WHERE id = %s", [report.batch_id]) or "is gone"
    )
    raise Conflict(
        f"batch {report.batch_id} {seen}, and this intake is at row {report.rows}: nothing after that was taken in",
        hint=f"shopfloor batch show {report.batch_id}",
        code="batch.moved_on",
    )


def add_chunk(report: Report, done: Report) -> None:
    """Add the counts of a chunk that is committed."""
    report.rows += done.rows
    report.accepted += done.accepted
    report.rejected += done.rejected
    report.duplicate += done.duplicate
    report.context += done.context
    report.superseded += done.superseded
    report.first_rejects += done.first_rejects[: FIRST_REJECTS - len(report.first_rejects)]


_END = """
UPDATE batches
   SET state = %s, error = %s, finished_at = clock(), source_sha256 = decode(%s, 'hex')
 WHERE id = %s
   AND state = 'reading'
"""


def end_batch(conn: Connection, workspace: UUID, report: Report, *, state: str, error: str, sha256: str | None) -> None:
    """Record how the batch ended: `complete`, or `failed` and why."""
    with transaction(conn, workspace):
        conn.execute(_END, [state, error[:500], sha256, report.batch_id])


_ABANDONED = """
SELECT id
  FROM batches
 WHERE state = 'reading'
   AND read_at < clock() - make_interval(secs => %s)
 ORDER BY id
 LIMIT 100
"""
_FAIL = """
UPDATE batches
   SET state = 'failed', error = 'its intake went away and did not come back', finished_at = clock()
 WHERE id = %s
   AND state = 'reading'
"""


def fail_abandoned(conn: Connection, *, seconds: float) -> int:
    """End batches whose intake has been gone for `seconds`, so that what waits for them may start; return how many.

    A batch whose intake lives is left alone, however slow its source: its session holds the batch.
    """
    ended = 0
    with transaction(conn, None):
        for (batch,) in conn.execute(_ABANDONED, [seconds]).fetchall():
            if one_value(conn, "SELECT pg_try_advisory_xact_lock(%s)", [_key(batch)]):
                ended += conn.execute(_FAIL, [batch]).rowcount
    return ended
