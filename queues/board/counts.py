"""What the board reads, in one snapshot: the queue grouped by lane and reason, throughput, workers, pauses, batches."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row, dict_row
from queues.database import Connection, transaction
from queues.pauses import Pause, active_pauses
from queues.predicates import ALIVE, AT_LIMIT, DUE, IS_STREAM, OVER_RATE, PAUSED, SERVED, SILENT, UNREAD

WINDOW_MINUTES = 5
"""What `finished`, `failed`, `returned` and `net_flow` look back over."""


class Group(NamedTuple):
    """Queued items of one lane and one reason."""

    lane: str
    reason: str
    """One of the lifecycle's reasons, or `dead`, or `unserved`: ready, and no live worker takes it."""
    items: int
    young: int
    """Of these, how many moved within the window."""
    oldest_seconds: float
    ready_seconds: float
    overdue_seconds: float | None
    """How long ago the earliest lease ended; negative while it holds."""


class Throughput(NamedTuple):
    """What left a lane within the window."""

    lane: str
    finished: int
    failed: int
    returned: int
    lately: int
    """Finished or failed in this minute or the one before."""


class Counts(NamedTuple):
    """One snapshot."""

    at: datetime
    groups: list[Group]
    throughput: list[Throughput]
    workers: list[dict[str, Any]]
    pauses: list[Pause]
    totals: dict[str, int]
    unread: list[dict[str, Any]]
    unreleased_seconds: float
    """How long items have waited for a batch that has ended."""
    is_sweeper_seen: bool


# The queue is read once and grouped before the predicates are asked: they cost a lookup each, so they are asked
# once a group and not once an item. Pauses of single orders and items are a column of the grouping.
_GROUPS = f"""
WITH alone AS (
  SELECT kind,
         CASE WHEN scope ~ '^[0-9a-f-]{{36}}$' THEN scope::uuid END AS id
    FROM pauses
   WHERE kind IN ('order', 'item') AND lifted_at IS NULL AND (until IS NULL OR until > clock())),
groups AS MATERIALIZED (
  SELECT q.lane, q.state, q.wait, q.workspace_id, q.pod_id, q.flow, q.claim_id, q.contract_id,
         q.due_at <= clock() AS was_due,
         (q.item_id = ANY (ARRAY(SELECT id FROM alone WHERE kind = 'item'))
          OR q.order_id = ANY (ARRAY(SELECT id FROM alone WHERE kind = 'order'))) IS TRUE AS held,
         NULL::uuid AS item_id,
         NULL::uuid AS order_id,
         count(*) AS items,
         min(q.moved_at) AS since,
         min(q.due_at) AS due_at,
         min(greatest(q.moved_at, q.due_at)) AS ready_since,
         count(*) FILTER (WHERE q.moved_at > clock() - make_interval(mins => {WINDOW_MINUTES})) AS young
    FROM queue q
   GROUP BY q.lane, q.state, q.wait, q.workspace_id, q.pod_id, q.flow, q.claim_id, q.contract_id, was_due, held),
reasons AS (
  SELECT q.*,
         CASE
           WHEN q.state = 'dead' THEN 'dead'
           WHEN q.state = 'leased' AND ({SILENT}) THEN 'silent'
           WHEN q.state = 'leased' THEN 'leased'
           WHEN q.state = 'waiting' THEN q.wait
           WHEN q.held OR {PAUSED} THEN 'paused'
           WHEN NOT ({DUE}) THEN 'backoff'
           WHEN {OVER_RATE} THEN 'rate'
           WHEN {AT_LIMIT} THEN 'slot'
           WHEN NOT {SERVED} THEN 'unserved'
           ELSE 'ready'
         END AS reason,
         c.until
    FROM groups q
    LEFT JOIN claims c ON c.id = q.claim_id)
SELECT lane,
       reason,
       sum(items)::bigint AS items,
       sum(young)::bigint AS young,
       extract(epoch FROM clock() - min(since))::float8 AS oldest_seconds,
       extract(epoch FROM clock() - min(ready_since))::float8 AS ready_seconds,
       extract(epoch FROM clock() - min(until))::float8 AS overdue_seconds
  FROM reasons
 GROUP BY lane, reason
"""
_THROUGHPUT = f"""
SELECT lane,
       sum(finished)::bigint AS finished,
       sum(failed)::bigint AS failed,
       sum(returned)::bigint AS returned,
       coalesce(sum(finished + failed)
         FILTER (WHERE minute >= date_trunc('minute', clock()) - interval '1 minute'), 0)::bigint AS lately
  FROM lane_minutes
 WHERE minute > clock() - make_interval(mins => {WINDOW_MINUTES})
 GROUP BY lane
"""
_WORKERS = f"""
SELECT w.name,
       w.host,
       w.pid,
       w.lanes,
       w.started_at,
       extract(epoch FROM clock() - w.beat_at)::float8 AS beat_seconds
  FROM workers w
 WHERE {ALIVE}
 ORDER BY w.name
 LIMIT 1000
"""
_TOTALS = """
SELECT count(*) AS batches,
       count(*) FILTER (WHERE state = 'reading') AS reading,
       coalesce(sum(rows_read), 0)::bigint AS rows,
       coalesce(sum(accepted), 0)::bigint AS accepted,
       coalesce(sum(rejected), 0)::bigint AS rejected,
       coalesce(sum(duplicate), 0)::bigint AS duplicate,
       coalesce(sum(context), 0)::bigint AS context
  FROM batches
"""
_UNREAD = f"""
SELECT b.id,
       b.flow,
       b.source,
       b.rows_read,
       {IS_STREAM} AS is_stream,
       extract(epoch FROM clock() - b.read_at)::float8 AS seconds
  FROM batches b
 WHERE {UNREAD}
 ORDER BY b.id
 LIMIT 20
"""
# Items that wait for a batch which has ended: an intake that died at its very end leaves them to the sweeper.
# Of the sweeper only the name of its session is read; it is visible to every role. Behind a pooler it may not be.
_SWEEPER = """
SELECT clock() AS at,
       coalesce((
         SELECT extract(epoch FROM clock() - min(b.finished_at))::float8
           FROM batches b
          WHERE b.state <> 'reading'
            AND EXISTS (SELECT
                          FROM queue q
                         WHERE q.wait = 'dependency' AND q.waiting_on = 'batch ' || b.id)), 0) AS unreleased_seconds,
       EXISTS (
         SELECT FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'sweeper') AS is_sweeper_seen
"""


def read_counts(conn: Connection, workspace: UUID) -> Counts:
    """Return what a workspace's board is made from, in one snapshot. The cost follows the work in the queue, never the archive."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
            seen = cursor.execute(_SWEEPER).fetchone()
            totals = cursor.execute(_TOTALS).fetchone()
            assert seen is not None
            assert totals is not None
            return Counts(
                groups=conn.cursor(row_factory=class_row(Group)).execute(_GROUPS).fetchall(),
                throughput=conn.cursor(row_factory=class_row(Throughput)).execute(_THROUGHPUT).fetchall(),
                workers=cursor.execute(_WORKERS).fetchall(),
                pauses=active_pauses(conn, workspace),
                totals=totals,
                unread=cursor.execute(_UNREAD).fetchall(),
                **seen,
            )
