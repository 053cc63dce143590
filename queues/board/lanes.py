"""The board: every lane with what is in it, what moves, what waits and what is stalled. Reads hot tables alone.

Waiting (on a person, a time, a pause, a limit) and stalled (work that could move and does not) are never the
same column. What cannot be known is None, never zero.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row
from contracts.lifecycle import CLAIMABLE_STAGES, Reason, Stage, State
from queues.database import Connection, transaction
from queues.pauses import active_pauses
from queues.predicates import AT_LIMIT, DUE, OVER_RATE, PAUSED, SERVED, SILENT, UNREAD

WINDOW_MINUTES = 5
"""What `finished`, `failed` and `net_flow` look back over."""
IDLE_SECONDS = 60.0
"""A served lane whose oldest ready item waits longer than this, while nothing moves in it, is stalled."""
OVERDUE_SECONDS = 10.0
"""A lease that ended this long ago, and still stands, has no sweeper behind it."""

_WAITING = frozenset({Reason.UNKNOWN, Reason.HUMAN, Reason.SECOND_APPROVAL, Reason.APPROVAL, Reason.DEPENDENCY})


@dataclass(slots=True)
class Lane:
    """One lane. Its ready items are `ready` + `paused` + `backoff` + `limited`."""

    lane: str
    ready: int = 0
    """Due, unpaused and under every limit: a worker may take it now, if there is one."""
    active: int = 0
    silent: int = 0
    waiting: int = 0
    paused: int = 0
    backoff: int = 0
    limited: int = 0
    dead: int = 0
    oldest_ready_seconds: float | None = None
    finished: int = 0
    failed: int = 0
    failed_share: float | None = None
    """Of all attempts that ended in the window; None when none did."""
    net_flow: int | None = None
    """What the window added to the lane; None when it keeps up: everything in it is younger than the window, and
    more than that has left it. Rule: a lane is served oldest first, so that what came and went within the window
    counts nothing."""
    workers: int = 0
    stalled: str = ""
    """Why work that could move does not; empty when it does, or has no work."""
    remedy: str = ""
    """What to type against the stall."""


@dataclass(slots=True)
class Waiting:
    """Items of one reason that no worker may touch."""

    reason: str
    items: int
    oldest_seconds: float


@dataclass(slots=True)
class Board:
    """A factory at one instant."""

    at: datetime
    lanes: list[Lane]
    waiting: list[Waiting]
    dead: int
    oldest_dead_seconds: float | None
    pauses: list[dict[str, Any]]
    workers: list[dict[str, Any]]
    unread: list[dict[str, Any]]
    """Batches whose intake is gone before its last row: id, flow, source, rows read, seconds since then."""
    sweeper: str | None
    """`running`, `late`, or None when it cannot be told."""
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def needs_attention(self) -> bool:
        """True when something is stalled, unserved or dead: what `status --check` exits 1 for."""
        return self.dead > 0 or bool(self.unread) or self.sweeper == "late" or self.is_abandoned or any(lane.stalled for lane in self.lanes)

    @property
    def is_abandoned(self) -> bool:
        """True when there is work on the line, if only for people, and no worker is alive to go on with it."""
        return not self.workers and self.totals.get("in_queue", 0) > 0

    def as_dict(self) -> dict[str, Any]:
        """Return the board for JSON."""
        return {"ok": not self.needs_attention} | asdict(self)


# The queue is read once and grouped before the predicates are asked: they cost a lookup each, so they are asked
# once a group and not once an item. Pauses of single orders and items are a column of the grouping.
_GROUPS = f"""
WITH alone AS (
  SELECT kind, CASE WHEN scope ~ '^[0-9a-f-]{{36}}$' THEN scope::uuid END AS id FROM pauses
   WHERE kind IN ('order', 'item') AND lifted_at IS NULL AND (until IS NULL OR until > clock())),
groups AS MATERIALIZED (
  SELECT q.lane, q.state, q.wait, q.workspace_id, q.pod_id, q.flow, q.claim_id, q.contract_id, q.due_at <= clock() AS was_due,
         (q.item_id = ANY (ARRAY(SELECT id FROM alone WHERE kind = 'item'))
          OR q.order_id = ANY (ARRAY(SELECT id FROM alone WHERE kind = 'order'))) IS TRUE AS held,
         NULL::uuid AS item_id, NULL::uuid AS order_id,
         count(*) AS items, min(q.moved_at) AS since, min(q.due_at) AS due_at,
         min(greatest(q.moved_at, q.due_at)) AS ready_since,
         count(*) FILTER (WHERE q.moved_at > clock() - make_interval(mins => {WINDOW_MINUTES})) AS young
    FROM queue q
   GROUP BY q.lane, q.state, q.wait, q.workspace_id, q.pod_id, q.flow, q.claim_id, q.contract_id, was_due, held),
reasons AS (
  SELECT q.*, CASE
           WHEN q.state = 'dead' THEN 'dead'
           WHEN q.state = 'leased' AND ({SILENT}) THEN 'silent'
           WHEN q.state = 'leased' THEN 'leased'
           WHEN q.state = 'waiting' THEN q.wait
           WHEN q.held OR {PAUSED} THEN 'paused'
           WHEN NOT ({DUE}) THEN 'backoff'
           WHEN {OVER_RATE} THEN 'rate'
           WHEN {AT_LIMIT} THEN 'slot'
           WHEN NOT {SERVED} THEN 'unserved'
           ELSE 'ready' END AS reason,
         c.until
    FROM groups q LEFT JOIN claims c ON c.id = q.claim_id)
SELECT lane, reason, sum(items)::bigint AS items, sum(young)::bigint AS young,
       extract(epoch FROM clock() - min(since))::float8 AS oldest_seconds,
       extract(epoch FROM clock() - min(ready_since))::float8 AS ready_seconds,
       extract(epoch FROM clock() - min(until))::float8 AS overdue_seconds
  FROM reasons GROUP BY lane, reason
"""
_FLOW = """
SELECT lane, sum(finished)::bigint AS finished, sum(failed)::bigint AS failed,
       sum(finished + failed) FILTER (WHERE minute >= date_trunc('minute', clock()) - interval '1 minute')::bigint
         AS lately
  FROM lane_minutes WHERE minute > clock() - make_interval(mins => %s) GROUP BY lane
"""
_WORKERS = """
SELECT name, host, pid, lanes, started_at, extract(epoch FROM clock() - beat_at)::float8 AS beat_seconds
  FROM workers WHERE stopped_at IS NULL AND beat_at > clock() - interval '30 seconds' ORDER BY name LIMIT 1000
"""
_TOTALS = """
SELECT count(*) AS batches, count(*) FILTER (WHERE state = 'reading') AS reading,
       coalesce(sum(rows_read), 0)::bigint AS rows,
       coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(rejected), 0)::bigint AS rejected,
       coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(context), 0)::bigint AS context
  FROM batches
"""
# Items that wait for a batch which has ended: an intake that died at its very end leaves them to the sweeper.
_UNRELEASED = """
SELECT extract(epoch FROM clock() - min(b.finished_at))::float8 FROM batches b
 WHERE b.state <> 'reading'
   AND EXISTS (SELECT FROM queue q WHERE q.wait = 'dependency' AND q.waiting_on = 'batch ' || b.id)
"""
_UNREAD = f"""
SELECT b.id, b.flow, b.source, b.rows_read, extract(epoch FROM clock() - b.read_at)::float8 AS seconds FROM batches b WHERE {UNREAD} ORDER BY b.id LIMIT 20
"""
# Only the name of a session is read here; it is visible to every role. Behind a pooler it may not be.
_SWEEPERS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sweeper')"


def read_board(conn: Connection, workspace: UUID) -> Board:
    """Return the board of a workspace in one snapshot. The cost follows the work in the queue, never the archive."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
            groups = cursor.execute(_GROUPS).fetchall()
            flows = cursor.execute(_FLOW, [WINDOW_MINUTES]).fetchall()
            workers = cursor.execute(_WORKERS).fetchall()
            pauses = [
                {"scope": p.scope, "why": p.why, "actor": p.actor, "since": p.created_at, "until": p.until}
                for p in active_pauses(conn, workspace)
            ]
            totals = cursor.execute(_TOTALS).fetchone() or {}
            unread = cursor.execute(_UNREAD).fetchall()
            now, unreleased, seen = conn.execute(f"SELECT clock(), ({_UNRELEASED}), ({_SWEEPERS})").fetchone() or (
                None,
                None,
                False,
            )
    lanes = _lanes(groups, flows, workers)
    in_queue = sum(row["items"] for row in groups)
    overdue = max(
        [row["overdue_seconds"] or 0.0 for row in groups if row["reason"] in ("leased", "silent")] + [unreleased or 0.0],
        default=0.0,
    )
    dead = [row for row in groups if row["reason"] == "dead"]
    assert now is not None
    return Board(
        at=now,
        lanes=lanes,
        waiting=_waiting(groups),
        dead=sum(row["items"] for row in dead),
        oldest_dead_seconds=max((row["oldest_seconds"] for row in dead), default=None),
        pauses=pauses,
        workers=workers,
        unread=unread,
        sweeper="late" if overdue > OVERDUE_SECONDS else "running" if seen else None,
        totals=totals | {"in_queue": in_queue, "ended": totals.get("accepted", 0) - in_queue},
    )


def _lanes(groups: Iterable[dict[str, Any]], flows: Iterable[dict[str, Any]], workers: Iterable[dict[str, Any]]) -> list[Lane]:
    found: dict[str, Lane] = {}
    by_lane: dict[str, list[dict[str, Any]]] = {}
    for row in groups:
        by_lane.setdefault(row["lane"], []).append(row)
    for worker in workers:
        for name in worker["lanes"]:
            found.setdefault(name, Lane(name)).workers += 1
    lately: dict[str, int] = {}
    for row in flows:
        lane = found.setdefault(row["lane"], Lane(row["lane"]))
        lane.finished, lane.failed, lately[lane.lane] = row["finished"], row["failed"], row["lately"] or 0
        ended = lane.finished + lane.failed
        lane.failed_share = lane.failed / ended if ended else None
    for name, rows in by_lane.items():
        _fill(found.setdefault(name, Lane(name)), rows, lately.get(name, 0))
    return sorted(found.values(), key=lambda lane: _place(lane.lane))


def _place(lane: str) -> tuple[int, str]:
    """Return where a lane stands on the road."""
    stage = {"cell": Stage.WORKCELL, "apply": Stage.APPLY}.get(lane.partition(".")[0], lane)
    order = [Stage.INTAKE.value, *(known.value for known in CLAIMABLE_STAGES)]
    return (order.index(stage) if stage in order else len(order), lane)


def _fill(lane: Lane, rows: Iterable[dict[str, Any]], lately: int) -> None:
    unserved = overdue = 0
    depth = young = 0
    oldest = 0.0
    for row in rows:
        reason, items = row["reason"], row["items"]
        if reason in ("ready", "unserved"):
            lane.ready += items
            lane.oldest_ready_seconds = max(lane.oldest_ready_seconds or 0.0, row["ready_seconds"])
            unserved += items if reason == "unserved" else 0
        elif reason in (Reason.LEASED, Reason.SILENT):
            lane.active += items
            lane.silent += items if reason == Reason.SILENT else 0
            overdue += items if (row["overdue_seconds"] or 0.0) > OVERDUE_SECONDS else 0
        elif reason == State.DEAD:
            lane.dead += items
        elif reason in _WAITING:
            lane.waiting += items
        elif reason == Reason.PAUSED:
            lane.paused += items
        elif reason == Reason.BACKOFF:
            lane.backoff += items
        else:
            lane.limited += items
        if reason != State.DEAD and reason not in _WAITING:
            depth, young, oldest = depth + items, young + row["young"], max(oldest, row["oldest_seconds"])
    lane.net_flow = young - lane.finished if oldest > WINDOW_MINUTES * 60 else max(0, depth - lane.finished) or None
    _explain_stall(lane, unserved, overdue, moving=bool(lane.active or lately))


def _explain_stall(lane: Lane, unserved: int, overdue: int, *, moving: bool) -> None:
    serve = "shopfloor up" if not lane.lane.startswith("apply.") else "shopfloor worker --lanes apply"
    if overdue:
        lane.stalled, lane.remedy = (
            f"the leases of {overdue} items ended and no sweeper brought them back",
            "shopfloor sweeper",
        )
    elif unserved and lane.workers:
        pinned = "1 item is" if unserved == 1 else f"{unserved} items are"
        lane.stalled = f"{pinned} pinned to a contract version that no live worker has the code for"
        lane.remedy = "shopfloor contract list"
    elif unserved:
        lane.stalled, lane.remedy = f"no live worker serves it: {unserved} items stand ready", serve
    elif lane.silent:
        leased = "a leased item" if lane.silent == 1 else f"{lane.silent} leased items"
        lane.stalled = f"the worker of {leased} sends no heartbeat; when the lease ends another takes over"
        lane.remedy = f"shopfloor items --lane {lane.lane} --reason silent"
    elif lane.ready and not moving and (lane.oldest_ready_seconds or 0.0) > IDLE_SECONDS:
        lane.stalled = f"{lane.workers} live workers serve it and none takes work: the doorbell does not reach them"
        lane.remedy = "shopfloor doctor"


def _waiting(groups: Iterable[dict[str, Any]]) -> list[Waiting]:
    found: dict[str, Waiting] = {}
    for row in groups:
        reason = row["reason"]
        if reason in _WAITING or reason in (Reason.PAUSED, Reason.BACKOFF, Reason.RATE, Reason.SLOT):
            one = found.setdefault(reason, Waiting(reason, 0, 0.0))
            one.items += row["items"]
            one.oldest_seconds = max(one.oldest_seconds, row["oldest_seconds"])
    order = [reason.value for reason in Reason]
    return sorted(found.values(), key=lambda one: order.index(one.reason))
