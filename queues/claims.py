"""Claims: lease a batch of items, give back what was not begun, close what is done.

A claim is one batch of items under one lease row. Workspaces and pods take turns (fair share); within a
pod, priority, then due time, then age decide.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.lifecycle import Stage, State, move
from queues.database import Connection
from queues.mover import Planned, Route, perform
from queues.predicates import ACTIVE, DUE, PAUSED, RUNS, STARTED
from queues.throughput import Ending, add_to_minutes

Pair = tuple[UUID, UUID]
"""A workspace and one of its pods."""


class Claimed(NamedTuple):
    """One leased item, with what a stage needs of its order."""

    item_id: UUID
    workspace_id: UUID
    order_id: UUID
    pod_id: UUID
    batch_id: UUID
    fence: int
    rounds: int
    contract_id: int | None
    priority: int
    crashes: int
    transients: int
    throttles: int
    contract_breaks: int
    qa_rejects: int
    drifts: int
    flow: str
    payload_sha256: bytes
    subject_key: str
    revision: str
    submitter: str
    moved_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease over a batch; `id` is what the heartbeat renews and the sweeper expires."""

    id: UUID
    lane: str
    stage: Stage
    items: tuple[Claimed, ...]


# A workspace's limit on a lane holds over all its pods: what room there is they share evenly, the odd ones by lot. Pauses are
# tested item by item.
# Items that were in a crash are claimed alone, so that a poison item takes no neighbours with it.
_BEFORE = f"""
WITH shares AS (
  SELECT q.workspace_id, q.pod_id, %(lane)s::text AS lane, q.share
    FROM unnest(%(workspaces)b::uuid[], %(pods)b::uuid[], %(shares)b::int[]) AS q (workspace_id, pod_id, share)),
rooms AS MATERIALIZED (
  SELECT l.workspace_id,
         greatest(least(l.max_active - {ACTIVE}, l.per_minute - {STARTED}), 0)::int AS room,
         l.per_minute
    FROM lanes l
   WHERE l.name = %(lane)s
     AND l.workspace_id = ANY (%(workspaces)b::uuid[])
     AND (l.max_active IS NOT NULL OR l.per_minute IS NOT NULL)),
groups AS (
  SELECT q.workspace_id, q.pod_id, least(q.share, r.room * q.nth / q.pods - r.room * (q.nth - 1) / q.pods) AS share
    FROM (SELECT s.*,
                 count(*) OVER (PARTITION BY s.workspace_id) AS pods,
                 row_number() OVER (PARTITION BY s.workspace_id ORDER BY random()) AS nth
            FROM shares s) q
    LEFT JOIN rooms r ON r.workspace_id = q.workspace_id),
picked AS MATERIALIZED (
  SELECT p.item_id
    FROM groups g
   CROSS JOIN LATERAL (
    SELECT q.item_id
      FROM queue q
     WHERE q.ready_lane = %(lane)s
       AND q.workspace_id = g.workspace_id
       AND q.pod_id = g.pod_id
"""
_AFTER = """
     ORDER BY q.priority, q.due_at, q.item_id
     LIMIT g.share
       FOR NO KEY UPDATE SKIP LOCKED) p
   LIMIT %(most)s),
claimed AS (
  UPDATE queue q
     SET state = 'leased', ready_lane = NULL, claim_id = %(claim)s,
         fence = q.fence + 1, move_no = q.move_no + 1, moved_at = clock()
    FROM picked p
   WHERE q.item_id = ANY (ARRAY[p.item_id])
  RETURNING q.*),
history AS (
  INSERT INTO moves (item_id, workspace_id, claim_id, at, no, fence, legal, actor, reason)
  SELECT item_id, workspace_id, claim_id, moved_at, move_no, fence, %(legal)s, %(actor)s, ''
    FROM claimed),
started AS (
  INSERT INTO lane_minutes (workspace_id, lane, minute, worker_id, started)
  SELECT c.workspace_id, %(lane)s, date_trunc('minute', clock()), %(worker)s, count(*)
    FROM claimed c
    JOIN rooms r ON r.workspace_id = c.workspace_id AND r.per_minute IS NOT NULL
   GROUP BY c.workspace_id
   ORDER BY c.workspace_id
      ON CONFLICT (minute, lane, workspace_id, worker_id)
      DO UPDATE SET started = lane_minutes.started + excluded.started),
opened AS (
  INSERT INTO claims (id, worker_id, lane, opened_at, beat_at, until)
  SELECT %(claim)s, %(worker)s, %(lane)s, clock(), clock(), clock() + make_interval(secs => %(seconds)s)
   WHERE EXISTS (SELECT FROM claimed))
SELECT c.item_id, c.workspace_id, c.order_id, c.pod_id, i.batch_id, c.fence, c.rounds, c.contract_id, c.priority,
       c.crashes, c.transients, c.throttles, c.contract_breaks, c.qa_rejects, c.drifts,
       c.flow, i.payload_sha256, o.subject_key, o.revision, o.submitter, c.moved_at
  FROM claimed c
  JOIN items i ON i.id = ANY (ARRAY[c.item_id])
  JOIN orders o ON o.id = ANY (ARRAY[c.order_id])
 ORDER BY c.item_id
"""


def _claim(which: str) -> str:
    """Return the statement that claims ready items for which an expression over the queue row `q` holds."""
    return f"""{_BEFORE}       AND {DUE} AND {RUNS} AND {which} AND NOT {PAUSED}{_AFTER}"""


_CLAIM = _claim("q.crashes = 0")
# Has an index of its own: the few are found without a walk past the many.
_CLAIM_CRASHED = _claim("q.crashes > 0 AND q.crashes BETWEEN %(least)s AND %(greatest)s")


class Crashed(NamedTuple):
    """Which items that were in crashes one claim may take, and how many of them."""

    least: int
    greatest: int
    most: int


CRASHED = (Crashed(1, 32_767, 1),)
"""Each alone: a poison item takes no neighbours with it."""
CRASHED_TOGETHER = (Crashed(1, 1, 8), Crashed(2, 32_767, 1))
"""After their first crash eight together, then each alone: where one takes long, and many were in a crash at once."""


_ONE_AT_A_TIME = """
SELECT pg_advisory_xact_lock(hashtextextended('lane ' || name || ' ' || workspace_id, 0))
  FROM (SELECT name, workspace_id
          FROM lanes
         WHERE workspace_id = ANY (%b::uuid[])
           AND name = %b
           AND (max_active IS NOT NULL OR per_minute IS NOT NULL)
         ORDER BY workspace_id
        OFFSET 0) limited
"""
"""Claims on a limited lane follow each other: two at once would both count what was there before either."""


def backlog(conn: Connection, lane: str, *, most: int = 10_000) -> list[Pair]:
    """Return the workspaces and pods that have unpaused ready work in a lane: ids and nothing else."""
    return [(w, p) for w, p in conn.execute("SELECT * FROM lane_backlog(%s, %s)", [lane, most], prepare=True)]


def lanes_due(conn: Connection) -> list[str]:
    """Return the lanes in which something is ready, now or after a backoff, in any workspace."""
    return [lane for (lane,) in conn.execute("SELECT lane FROM lanes_due()")]


def claim_batch(
    conn: Connection, claim_id: UUID, worker_id: UUID, worker: str, lane: str, stage: Stage, shares: dict[Pair, int],
    *, seconds: float, crashed: Crashed | None = None, runs: Sequence[bytes] | None = None,
) -> Claim:  # fmt: skip
    """Lease up to `shares[pair]` due items of each pair for `seconds`, within the lane's limits; the claim may be empty.

    With `crashed`, only items that were in so many crashes; without, none of them. With `runs`, only items that are
    pinned to a contract with one of these hashes.
    Every leased item has a new fence and its move `claim`. Call inside a transaction over the pairs' workspaces.
    """
    # In a statement of its own: what is counted under the lock has to be seen after it was taken.
    conn.execute(_ONE_AT_A_TIME, [list({workspace for workspace, _ in shares}), lane], prepare=True)
    rows = conn.execute(
        _CLAIM_CRASHED if crashed else _CLAIM,
        {
            "lane": lane,
            "workspaces": [workspace for workspace, _ in shares],
            "pods": [pod for _, pod in shares],
            "shares": list(shares.values()),
            "least": crashed and crashed.least,
            "greatest": crashed and crashed.greatest,
            "most": crashed.most if crashed else sum(shares.values()),
            "claim": claim_id,
            "legal": move("claim", stage, State.READY).number,
            "actor": worker,
            "worker": worker_id,
            "seconds": seconds,
            "runs": runs,
        },
        prepare=True,
    ).fetchall()
    return Claim(claim_id, lane, stage, tuple(Claimed(*row) for row in rows))


_CLOSE = """
UPDATE claims
   SET closed_at = clock()
 WHERE id = %s
   AND closed_at IS NULL
"""
_CLOSE_EMPTY = f"{_CLOSE}   AND NOT EXISTS (SELECT FROM queue WHERE claim_id = %s)"


def close_claim(conn: Connection, claim_id: UUID) -> None:
    """Close a claim whose items have all moved on; nothing is left to renew or expire."""
    conn.execute(_CLOSE, [claim_id], prepare=True)


def close_if_empty(conn: Connection, claim_id: UUID) -> None:
    """Close a claim unless something is still leased under it: a row that another session has locked is not gone.

    Call inside a transaction over the workspaces of its items.
    """
    conn.execute(_CLOSE_EMPTY, [claim_id, claim_id], prepare=True)


class _Held(NamedTuple):
    item_id: UUID
    workspace_id: UUID
    worker_id: UUID
    fence: int
    stage: str
    lane: str


_HELD = """
SELECT q.item_id, q.workspace_id, c.worker_id, q.fence, q.stage, q.lane
  FROM queue q
  JOIN claims c ON c.id = q.claim_id
 WHERE q.claim_id = %(claim)s
   AND (%(among)s::uuid[] IS NULL OR q.item_id = ANY (%(among)s))
   AND {which}
 ORDER BY q.item_id
   FOR NO KEY UPDATE OF q SKIP LOCKED
"""
_ALL_HELD, _PAUSED_HELD = _HELD.format(which="true"), _HELD.format(which=PAUSED)


def give_back(
    conn: Connection, claim_id: UUID, *, by: str, note: str, among: Sequence[UUID] | None = None, paused_alone: bool = False
) -> dict[UUID, str]:
    """Return to their lanes the items that a claim still holds, and close it if all are; return the lane of each.

    With `among`, only those; with `paused_alone`, only those that a pause covers. Counts nothing against the items. Call inside a
    transaction over their workspaces.
    """
    values = {"claim": claim_id, "among": list(among) if among is not None else None}
    cursor = conn.cursor(row_factory=class_row(_Held))
    held = cursor.execute(_PAUSED_HELD if paused_alone else _ALL_HELD, values).fetchall()
    planned = [
        Planned(one.item_id, one.fence, Route((move("give_back", Stage(one.stage), State.LEASED),), one.lane, (note,))) for one in held
    ]
    moved = perform(conn, planned, by=by)
    back = [one for one in held if one.item_id in moved.done]
    add_to_minutes(conn, Counter(Ending(one.workspace_id, one.lane, one.worker_id, "returned") for one in back))
    close_if_empty(conn, claim_id)
    return {one.item_id: one.lane for one in back}
