"""Intake: stream a source, validate each row, and account for every one of them, a chunk to a transaction.

A killed intake goes on where its last chunk ended. The same file twice adds nothing. Two intakes at once meet in
the unique index on subject and revision: the later one reads again and decides again.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from artifacts.blobs import ROW_BYTES, BlobStore, name_of
from contracts.canonical import canonical
from contracts.errors import BadInput, Conflict, ExpressionFailed
from contracts.floor import Floor, Flow
from contracts.identity import new_id, new_ids
from contracts.lifecycle import RELEASE, Stage, State, lane_of, move
from queues.database import Connection, transaction
from queues.doorbell import Doorbell
from queues.mover import STAGING, STAGING_TYPES, Planned, Route, admit, perform
from workcells.shapes import RowRefused
from workcells.shapes.catalogue import Shape

from pipeline.arrivals import Arrival, first_move, known_orders, settle
from pipeline.failpoints import failpoint
from pipeline.sources import BadRow, Row, Source
from pipeline.sources.rejects import RejectsFile
from pipeline.sources.validation import RowValidator

CHUNK_ROWS = 1000
CHUNK_BYTES = 8 * 1024 * 1024
_TRIES = 8
_RELEASE_ROWS = 5000


@dataclass(slots=True)
class Report:
    """The account of one intake; `rows` is the sum of the other three counts."""

    batch_id: UUID | None = None
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    context: int = 0
    superseded: int = 0
    resumed_at: int = 0
    first_rejects: list[BadRow] = field(default_factory=list)
    seconds: float = 0.0


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
    doorbell: Doorbell | None = None
    rejects: RejectsFile | None = None
    progress: Callable[[Report, Source], None] = lambda report, source: None
    max_rejects: int | None = None


def check(intake: Intake, source: Source) -> Report:
    """Read and validate a whole source and write nothing: what `--dry-run` prints and `--strict` asks first."""
    started, report = time.monotonic(), Report()
    for row in source.rows():
        arrival = read_row(intake, row)
        report.rows += 1
        if arrival.code:
            _count_reject(intake, report, row, arrival)
        else:
            report.accepted += 1
            report.context += arrival.is_context
        if report.rows % CHUNK_ROWS == 0:
            intake.progress(report, source)
    report.seconds = time.monotonic() - started
    return report


def take_in(intake: Intake, source: Source, *, as_of: datetime | None = None) -> Report:
    """Take in every row of a source and return the account. Raises what ends it early; the chunks before stand."""
    started = time.monotonic()
    report = _open_batch(intake, source)
    newest = as_of
    with transaction(intake.conn, intake.workspace):
        intake.conn.execute(STAGING)
    try:
        for chunk in _chunks(intake, source, report):
            if as_of is None:
                newest = _newest(newest, chunk)
            _take_chunk(intake, report, chunk, newest)
            failpoint("intake.chunk_committed")
            if intake.rejects:
                intake.rejects.flush()
            if not intake.flow.after_intake and intake.doorbell:
                intake.doorbell.ring([lane_of(Stage.ROUTE)])
            intake.progress(report, source)
            if intake.max_rejects is not None and report.rejected > intake.max_rejects:
                raise Conflict(f"{report.rejected} rows were rejected, more than the {intake.max_rejects} allowed; the batch was stopped after row {report.rows}", code="intake.too_many_rejects")
    except BadInput as error:
        _end_batch(intake, report, source, "failed", str(error))
        raise
    failpoint("intake.complete")
    _end_batch(intake, report, source, "complete", "")
    report.seconds = time.monotonic() - started
    return report


def read_row(intake: Intake, row: Row | BadRow) -> Arrival:
    """Return a row in the flow's shape with its identity, or with the code of what is wrong with it."""
    arrival = Arrival(row.row_no, row.line, row.byte_offset)
    if isinstance(row, BadRow):
        arrival.outcome, arrival.code, arrival.field, arrival.message = "rejected", row.code, row.field, row.message
        return arrival
    try:
        value = intake.shape.normalise(row.value)
        problem = intake.validator.first_problem(value)
        if problem is not None:
            raise RowRefused(*problem)
        arrival.subject_key, arrival.revision = _identity(intake.flow, value)
        arrival.body = canonical(value)
        arrival.is_context = intake.flow.is_context(value)
    except ExpressionFailed as error:
        arrival.outcome, arrival.code, arrival.message = "rejected", "intake.value", error.message
        return arrival
    except RowRefused as error:
        arrival.outcome, arrival.code, arrival.field, arrival.message = "rejected", error.instance_code, error.field, error.message
        return arrival
    except BadInput as error:
        arrival.outcome, arrival.code, arrival.message = "rejected", "intake.number", error.message
        return arrival
    arrival.sha256 = name_of(arrival.body)
    arrival.goal = str(value.get("title", ""))[:200]
    arrival.value = value
    return arrival


def _identity(flow: Flow, value: dict[str, Any]) -> tuple[str, str]:
    key, revision = value.get(flow.subject_field), value.get(flow.revision_field)
    for name, part in ((flow.subject_field, key), (flow.revision_field, revision)):
        if isinstance(part, bool) or not isinstance(part, (str, int)) or not 0 < len(str(part)) <= 500:
            raise RowRefused("intake.subject", f"/{name}", "expected a string of 1 to 500 characters, or an integer")
    return str(key), str(revision)


def _count_reject(intake: Intake, report: Report, row: Row | BadRow, arrival: Arrival) -> None:
    report.rejected += 1
    bad = row if isinstance(row, BadRow) else BadRow(row.row_no, row.line, row.byte_offset, arrival.code, arrival.field, arrival.message, "")
    if len(report.first_rejects) < 5:
        report.first_rejects.append(bad)
    if intake.rejects:
        intake.rejects.add(bad)


def _chunks(intake: Intake, source: Source, report: Report) -> Iterator[list[Arrival]]:
    """Yield arrivals in chunks in which no subject is twice: the second one has to find the first one stored."""
    chunk: list[Arrival] = []
    keys: set[str] = set()
    size = 0
    for row in source.rows(skip=report.resumed_at):
        arrival = read_row(intake, row)
        if chunk and (len(chunk) >= CHUNK_ROWS or size >= CHUNK_BYTES or arrival.subject_key and arrival.subject_key in keys):
            yield chunk
            chunk, keys, size = [], set(), 0
        if arrival.code:
            _count_reject(intake, report, row, arrival)
        keys.add(arrival.subject_key)
        size += len(arrival.body)
        chunk.append(arrival)
    if chunk:
        yield chunk


def _take_chunk(intake: Intake, report: Report, chunk: Sequence[Arrival], as_of: datetime | None) -> None:
    for attempt in range(_TRIES):
        for arrival in chunk:
            if arrival.code in ("intake.duplicate", "intake.older_revision", "intake.conflict"):
                arrival.outcome, arrival.code, arrival.message, arrival.order_id = "accepted", "", "", None
        try:
            superseded = _write_chunk(intake, report, chunk, as_of)
        except psycopg.errors.UniqueViolation:
            continue  # another intake took one of these subjects: decide again with what it stored
        except _BeingApplied as busy:
            if attempt == _TRIES - 1:
                raise Conflict(f"subject {busy} is being applied right now: its newer revision cannot come in", hint="run the same command again") from None
            time.sleep(0.25 * 2**attempt)
            continue
        report.rows += len(chunk)
        for arrival in chunk:
            if arrival.outcome == "accepted":
                report.accepted += 1
                report.context += arrival.is_context
            elif arrival.outcome == "duplicate":
                report.duplicate += 1
            elif arrival.code == "intake.conflict":
                _count_reject(intake, report, BadRow(arrival.row_no, arrival.line, arrival.byte_offset, arrival.code, "", arrival.message, ""), arrival)
        report.superseded += superseded
        return
    raise Conflict("other intakes keep taking the same subjects", hint="wait for them to end, then run the same command again")


class _BeingApplied(Exception):
    """The older revision of a subject is in the middle of an apply."""


def _write_chunk(intake: Intake, report: Report, chunk: Sequence[Arrival], as_of: datetime | None) -> int:
    conn, flow = intake.conn, intake.flow
    _store_large(intake, chunk)
    with transaction(conn, intake.workspace):
        known = known_orders(conn, flow.name, (arrival.subject_key for arrival in chunk if arrival.subject_key))
        superseded = settle(chunk, known)
        if superseded:
            _supersede(intake, superseded)
        accepted = [arrival for arrival in chunk if arrival.outcome == "accepted"]
        row = conn.execute("SELECT clock()").fetchone()
        assert row is not None
        ids = new_ids(2 * len(accepted), row[0])
        for k, arrival in enumerate(accepted):
            arrival.order_id, arrival.item_id = ids[2 * k], ids[2 * k + 1]
        _stage(conn, chunk, holds=flow.after_intake)
        admit(
            conn, workspace=intake.workspace, batch=_batch(report), pod=intake.pod_id, flow=flow.name, submitter=intake.submitter,
            actor=intake.submitter,
        )  # fmt: skip
        if flow.index:
            _index(intake, accepted)
        conn.execute(
            "UPDATE batches SET rows_read = rows_read + %s, accepted = accepted + %s, rejected = rejected + %s, duplicate = duplicate + %s, "
            "context = context + %s, as_of = greatest(as_of, %s) WHERE id = %s",
            [
                len(chunk),
                len(accepted),
                sum(arrival.outcome == "rejected" for arrival in chunk),
                sum(arrival.outcome == "duplicate" for arrival in chunk),
                sum(arrival.is_context for arrival in accepted),
                as_of,
                report.batch_id,
            ],
        )
    return len(superseded)


def _batch(report: Report) -> UUID:
    assert report.batch_id is not None
    return report.batch_id


def _store_large(intake: Intake, chunk: Sequence[Arrival]) -> None:
    for arrival in chunk:
        if arrival.outcome == "accepted" and len(arrival.body) > ROW_BYTES:
            intake.store.put(arrival.body)


def _stage(conn: Connection, chunk: Sequence[Arrival], *, holds: bool) -> None:
    with conn.cursor() as cursor, cursor.copy("COPY arriving FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(STAGING_TYPES)
        for a in chunk:
            first = first_move(a, holds=holds)
            body = a.body if a.outcome == "accepted" and len(a.body) <= ROW_BYTES else None
            copy.write_row(
                (a.row_no, a.line, a.byte_offset, a.outcome, a.code, a.field, a.message, a.subject_key, a.revision, a.order_id, a.item_id,
                 a.sha256, body, a.goal, first.number, first.to_state.value)
            )  # fmt: skip


_OPEN_ITEMS = """
SELECT q.item_id, q.fence, q.stage, q.state, q.lane, o.subject_key FROM orders o JOIN items i ON i.order_id = o.id JOIN queue q ON q.item_id = i.id
 WHERE o.id = ANY(%s) AND q.state <> 'dead' ORDER BY q.item_id FOR NO KEY UPDATE OF q
"""


def _supersede(intake: Intake, orders: Sequence[UUID]) -> None:
    """End the work on older revisions, wherever it stands, their open proposals first."""
    rows = intake.conn.execute(_OPEN_ITEMS, [list(orders)]).fetchall()
    for _, _, stage, state, _, key in rows:
        if (stage, state) == ("apply", "leased"):
            raise _BeingApplied(key)
    intake.conn.execute("SELECT void_proposals(%s, 'superseded')", [[row[0] for row in rows]])
    planned = [
        Planned(item, fence, Route((move("supersede", Stage(stage), State(state)),), lane, ("a newer revision arrived",), finding="superseded"))
        for item, fence, stage, state, lane, _ in rows
    ]
    perform(intake.conn, planned, by=intake.submitter)
    # Orders without a live item (a dead letter) end here: their newer revision takes over.
    intake.conn.execute(
        "UPDATE orders SET state = 'superseded', closed_at = clock(), finding = 'superseded' WHERE id = ANY(%s) AND state = 'open'", [list(orders)]
    )


def _index(intake: Intake, accepted: Sequence[Arrival]) -> None:
    columns: list[list[str]] = [[] for _ in range(7)]
    mention_from: list[str] = []
    mention_to: list[str] = []
    index = intake.flow.index
    for arrival in accepted:
        value = arrival.value or {}
        title, body = str(value.get(index["title"]) or ""), str(value.get(index["body"]) or "")
        facts = {key: part for key, part in value.items() if key not in (index["title"], index["body"])}
        row = (arrival.subject_key, arrival.revision, str(value.get("kind") or ""), str(value.get("state") or ""), title, body, json.dumps(facts))
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)
        for key in intake.shape.mentions(value):
            mention_from.append(arrival.subject_key)
            mention_to.append(key)
    intake.conn.execute(
        "SELECT index_subjects(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)", [intake.workspace, intake.flow.name, *columns, mention_from, mention_to]
    )


def _newest(newest: datetime | None, chunk: Sequence[Arrival]) -> datetime | None:
    """Return the latest revision that is a timestamp: the data's own now, from which ages count."""
    for arrival in chunk:
        if arrival.outcome != "rejected" and len(arrival.revision) >= 19:
            try:
                at = datetime.fromisoformat(arrival.revision)
            except ValueError:
                continue
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            newest = at if newest is None or at > newest else newest
    return newest


def _open_batch(intake: Intake, source: Source) -> Report:
    """Make the batch row, or take up the one that a killed intake of the very same file left reading."""
    print_ = source.fingerprint
    identity = f"{source.name}|{print_}" if print_ is not None else f"stream|{new_id()}"
    with transaction(intake.conn, intake.workspace) as conn:
        left = conn.execute(
            "SELECT id, rows_read, accepted, rejected, duplicate, context FROM batches "
            "WHERE workspace_id = %s AND flow = %s AND source_identity = %s AND state = 'reading' ORDER BY created_at DESC LIMIT 1",
            [intake.workspace, intake.flow.name, identity],
        ).fetchone()
        if left:
            return Report(left[0], left[1], left[2], left[3], left[4], left[5], resumed_at=left[1])
        trigger, batch = new_id(), new_id()
        conn.execute(
            "INSERT INTO triggers (id, workspace_id, kind, source, actor) VALUES (%s, %s, 'batch', %s, %s)",
            [trigger, intake.workspace, source.name, intake.submitter],
        )
        conn.execute(
            "INSERT INTO batches (id, workspace_id, trigger_id, floor_id, flow, source, source_identity, submitter) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [batch, intake.workspace, trigger, intake.floor_id, intake.flow.name, source.name, identity, intake.submitter],
        )
    return Report(batch)


def _end_batch(intake: Intake, report: Report, source: Source, state: str, error: str) -> None:
    """Record how the batch ended, then start what waited for it. The sweeper does the same for an intake that died here."""
    with transaction(intake.conn, intake.workspace) as conn:
        if intake.flow.index and state == "complete" and report.accepted:
            conn.execute("SELECT refresh_lexicon(%s, %s)", [intake.workspace, intake.flow.name])
        conn.execute(
            "UPDATE batches SET state = %s, error = %s, finished_at = clock(), source_sha256 = decode(%s, 'hex') WHERE id = %s",
            [state, error[:500], source.sha256, report.batch_id],
        )
    if intake.flow.after_intake:
        _release(intake, report)
    if intake.doorbell:
        intake.doorbell.ring([lane_of(Stage.ROUTE)])


def _release(intake: Intake, report: Report) -> None:
    route = Route((RELEASE,), lane_of(Stage.ROUTE), ("its batch is complete",))
    while True:
        with transaction(intake.conn, intake.workspace) as conn:
            rows = conn.execute(
                "SELECT item_id, fence FROM queue WHERE wait = 'dependency' AND waiting_on = %s ORDER BY item_id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED",
                [f"batch {report.batch_id}", _RELEASE_ROWS],
            ).fetchall()
            perform(conn, (Planned(item, fence, route) for item, fence in rows), by=intake.submitter)
        if intake.doorbell and rows:
            intake.doorbell.ring([lane_of(Stage.ROUTE)])
        if len(rows) < _RELEASE_ROWS:
            return
