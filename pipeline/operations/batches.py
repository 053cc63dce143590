"""Read batches: list them, summarise one, wait for its end, and yield every input row in its order."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from contracts.envelope import ENVELOPE_KIND
from contracts.errors import Conflict, NotFound
from queues.database import Connection, one_value, transaction
from queues.predicates import IS_STREAM, UNREAD

PAGE_ROWS = 2000
"""Rows of one page of results: what a reader holds in memory."""
_POLL_SECONDS = (0.1, 0.2, 0.5, 1.0)

_LIST = """
SELECT id, flow, state, source, rows_read AS rows, accepted, rejected, duplicate, context, submitter, as_of, created_at,
       finished_at, error
  FROM batches
 WHERE workspace_id = ANY (workspaces_in_use())
   AND (%(after)s::uuid IS NULL OR (created_at, id) < (SELECT created_at, id FROM batches WHERE id = %(after)s))
 ORDER BY created_at DESC, id DESC
 LIMIT %(limit)s
"""


def list_batches(conn: Connection, workspace: UUID, *, limit: int = 100, after: UUID | None = None) -> list[dict[str, Any]]:
    """Return up to `limit` batches, the newest first; `after` is the last id of the page before."""
    return _rows(conn, workspace, _LIST, {"limit": limit, "after": after})


_BATCH = f"""
SELECT b.id, b.flow, b.state, b.source, b.source_sha256, b.rows_read AS rows, b.accepted, b.rejected, b.duplicate,
       b.context, b.submitter, b.as_of, b.created_at, b.finished_at, b.error, b.floor_id,
       ({UNREAD}) AS is_unread,
       ({IS_STREAM}) AS is_stream,
       extract(epoch FROM coalesce(b.finished_at, b.read_at) - b.created_at)::float8 AS intake_seconds
  FROM batches b
 WHERE b.id = %(batch)s
"""
# Orders of a batch are found through its items: the one index on a batch that grows with it.
_ORDERS = """
SELECT o.state, o.finding, count(*) AS orders, max(o.closed_at) AS last_closed_at
  FROM items i
  JOIN orders o ON o.id = i.order_id
 WHERE i.batch_id = %(batch)s
 GROUP BY 1, 2
"""
_PROPOSALS = """
SELECT p.state, count(*) AS proposals
  FROM items i
  JOIN proposals p ON p.item_id = i.id
 WHERE i.batch_id = %(batch)s
 GROUP BY 1
 ORDER BY 1
"""
_IN_PROGRESS = """
SELECT CASE WHEN q.state = 'dead' THEN 'dead' ELSE coalesce(q.wait, q.state) END AS status, q.lane, count(*) AS items
  FROM queue q
  JOIN items i ON i.id = q.item_id
 WHERE i.batch_id = %(batch)s
 GROUP BY 1, 2
 ORDER BY 1, 2
"""


def batch_summary(conn: Connection, workspace: UUID, batch_id: UUID) -> dict[str, Any]:
    """Return a batch with its row counts, orders by state and finding, proposals by state, and how long it took.

    `rows` is accepted + rejected + duplicate. `seconds` runs from the first row to the end of the last order; None while
    an order is open.
    """
    values = {"batch": batch_id}
    found = _rows(conn, workspace, _BATCH, values)
    if not found:
        raise NotFound(f"no batch {batch_id} in this workspace", hint="shopfloor batch list")
    batch = found[0]
    orders = _rows(conn, workspace, _ORDERS, values)
    states: dict[str, int] = {}
    findings: dict[str, int] = {}
    for row in orders:
        states[row["state"]] = states.get(row["state"], 0) + row["orders"]
        if row["finding"]:
            findings[row["finding"]] = findings.get(row["finding"], 0) + row["orders"]
    last = max((row["last_closed_at"] for row in orders if row["last_closed_at"]), default=batch["finished_at"])
    is_over = batch["state"] != "reading" and "open" not in states
    return batch | {
        "orders": dict(sorted(states.items())),
        "findings": dict(sorted(findings.items(), key=lambda pair: -pair[1])),
        "proposals": {row["state"]: row["proposals"] for row in _rows(conn, workspace, _PROPOSALS, values)},
        "in_progress": _rows(conn, workspace, _IN_PROGRESS, values),
        "seconds": (last - batch["created_at"]).total_seconds() if is_over and last else None,
    }


# Items that only a worker can move on; EXISTS stops at the first, so that a full queue is not counted.
_OPEN = """
SELECT b.state = 'reading' OR EXISTS (
         SELECT
           FROM queue q
           JOIN items i ON i.id = q.item_id
          WHERE i.batch_id = b.id
            AND (q.state IN ('ready', 'leased') OR q.wait = 'dependency'))
  FROM batches b
 WHERE b.id = %s
"""
_UNFINISHED = """
SELECT q.lane, coalesce(q.wait, q.state) AS status, count(*) AS items
  FROM queue q
  JOIN items i ON i.id = q.item_id
 WHERE i.batch_id = %(batch)s
   AND (q.state IN ('ready', 'leased') OR q.wait = 'dependency')
 GROUP BY 1, 2
 ORDER BY 3 DESC
 LIMIT 5
"""


def wait_for_batch(
    conn: Connection, workspace: UUID, batch_id: UUID, *, seconds: float, progress: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Return the summary once every order has ended or waits for a person. Raises Conflict after `seconds`."""
    deadline = time.monotonic() + seconds
    for pause in _pauses():
        with transaction(conn, workspace):
            is_open: bool | None = one_value(conn, _OPEN, [batch_id])
        if is_open is None:
            raise NotFound(f"no batch {batch_id} in this workspace", hint="shopfloor batch list")
        if not is_open:
            return batch_summary(conn, workspace, batch_id)
        left = deadline - time.monotonic()
        if left <= 0:
            break
        progress()
        time.sleep(min(pause, left))
    raise _still_open(conn, workspace, batch_id, seconds)


def _pauses() -> Iterator[float]:
    yield from _POLL_SECONDS
    while True:
        yield _POLL_SECONDS[-1]


def _still_open(conn: Connection, workspace: UUID, batch_id: UUID, seconds: float) -> Conflict:
    unfinished = _rows(conn, workspace, _UNFINISHED, {"batch": batch_id})
    what = ", ".join(f"{row['items']} {row['status']} in lane {row['lane']}" for row in unfinished)
    return Conflict(
        f"batch {batch_id} is still open after {seconds:g} s: {what or 'its intake is still reading'}",
        hint=f"what blocks it: shopfloor status   ·   wait again: shopfloor batch wait {batch_id}",
        code="batch.open",
    )


# One page by primary key; the rest are look-ups by key for each of its rows. The artifact is what the cell returned:
# the sealed proposal is named by the proposal itself.
_RESULTS = """
SELECT r.row_no, r.line, r.subject_key AS subject, r.outcome, r.code, r.field, r.message, r.order_id, o.revision,
       o.state AS order_state,
       coalesce(nullif(o.finding, ''), p.finding) AS finding,
       i.id AS item_id,
       coalesce((SELECT coalesce(s.reason, s.state) FROM item_reasons s WHERE s.item_id = i.id),
                (SELECT m.reason FROM moves m WHERE m.item_id = i.id ORDER BY m.no DESC LIMIT 1)) AS reason,
       a.sha256 AS artifact_sha256, p.id AS proposal_id, p.action, p.target, p.state AS proposal_state,
       x.state AS apply_state, x.finished_at AS applied_at
  FROM batch_rows r
  LEFT JOIN orders o ON o.id = r.order_id
  LEFT JOIN LATERAL (SELECT id FROM items WHERE order_id = o.id ORDER BY id LIMIT 1) i ON true
  LEFT JOIN LATERAL (
         SELECT sha256
           FROM artifacts
          WHERE item_id = i.id
            AND kind <> %(envelope)s
          ORDER BY fence DESC, id DESC
          LIMIT 1) a ON true
  LEFT JOIN LATERAL (
         SELECT id, action, target, state, finding
           FROM proposals
          WHERE item_id = i.id
          ORDER BY epoch DESC
          LIMIT 1) p ON true
  LEFT JOIN LATERAL (
         SELECT state, CASE state WHEN 'applied' THEN finished_at END AS finished_at
           FROM applies
          WHERE proposal_id = p.id
          ORDER BY intent_at DESC
          LIMIT 1) x ON true
 WHERE r.batch_id = %(batch)s
   AND r.row_no > %(after)s
 ORDER BY r.row_no
 LIMIT %(limit)s
"""
_REJECTS = """
SELECT row_no, line, byte_offset, field, code, message
  FROM batch_rows
 WHERE batch_id = %(batch)s
   AND row_no > %(after)s
   AND outcome = 'rejected'
 ORDER BY row_no
 LIMIT %(limit)s
"""


def results(conn: Connection, workspace: UUID, batch_id: UUID, *, after: int = 0) -> Iterator[dict[str, Any]]:
    """Yield every input row of a batch in order, with what became of it; one page is in memory at a time.

    `after` is the last row number that the caller has. No transaction is open between pages: a reader may be slow.
    """
    return _pages(conn, workspace, _RESULTS, {"batch": batch_id, "after": after, "envelope": ENVELOPE_KIND})


def rejects(conn: Connection, workspace: UUID, batch_id: UUID, *, after: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the rejected rows of a batch in order, each with its place, code and message."""
    return _pages(conn, workspace, _REJECTS, {"batch": batch_id, "after": after})


def _pages(conn: Connection, workspace: UUID, statement: str, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # Pages by key instead of an open cursor: a slow reader would leave its transaction idle, and the database ends those
    # after ten seconds.
    while True:
        page = _rows(conn, workspace, statement, values | {"limit": PAGE_ROWS})
        yield from page
        if len(page) < PAGE_ROWS:
            return
        values = values | {"after": page[-1]["row_no"]}


def _rows(conn: Connection, workspace: UUID, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, values, prepare=True).fetchall()
