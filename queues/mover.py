"""The one writer of stage and state: every change is a legal move, fenced, with its history in the same statement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from contracts.attempts import Cause
from contracts.lifecycle import ARCHIVED, Move, Wait
from queues.database import Connection

COUNTERS = {
    Cause.CRASH: "crashes",
    Cause.TRANSIENT: "transients",
    Cause.THROTTLE: "throttles",
    Cause.CONTRACT: "contract_breaks",
    Cause.QA: "qa_rejects",
    Cause.DRIFT: "drifts",
}
"""Column of the queue row that counts the attempts ended for each cause."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a group of items does alike: the moves, in order, and what the queue row holds after them."""

    moves: tuple[Move, ...]
    lane: str
    """Lane after the last move."""
    notes: tuple[str, ...] = ()
    """Reason recorded with each move; missing ones are empty."""
    wait: Wait | None = None
    waiting_on: str = ""
    cause: Cause | None = None
    """Counter that the attempt just ended adds to."""
    contract_id: int | None = None
    priority: int | None = None
    round: bool = False
    """True when a rework round begins."""
    finding: str = ""
    """What an ending item is filed under."""


class Planned(NamedTuple):
    """One item's plan to move; refused when the item is no longer where, and under the fence, that it says."""

    item_id: UUID
    fence: int
    route: Route
    delay_seconds: float = 0.0


class Position(NamedTuple):
    """Where an item is after its move."""

    item_id: UUID
    workspace_id: UUID
    order_id: UUID
    fence: int
    move_no: int


@dataclass(slots=True)
class Moved:
    """Who moved, and who had been moved by somebody else first."""

    done: dict[UUID, Position] = field(default_factory=dict)
    refused: list[UUID] = field(default_factory=list)


# The fence and the place are part of the WHERE: a stale worker's statement finds nothing and changes nothing.
# An array of one instead of `=`: see docs/decisions/0011-plans-that-cannot-flip.md.
_MATCH = """q.item_id = ANY (ARRAY[t.item_id]) AND q.fence = t.fence AND q.stage = %(from_stage)s AND q.state = %(from_state)s"""
_WANTED = """
wanted AS MATERIALIZED (
  SELECT *
    FROM unnest(%(ids)b::uuid[], %(fences)b::int[], %(delays)b::float8[]) AS t (item_id, fence, delay))"""
_HISTORY = """
history AS (
  INSERT INTO moves (item_id, workspace_id, claim_id, at, no, fence, legal, actor, reason)
  SELECT m.item_id, m.workspace_id, %(claim)s::uuid, clock(),
         m.move_no - %(count)s + s.k, m.fence - %(leases)s + s.lease, s.legal, %(actor)s, s.note
    FROM moved m
   CROSS JOIN unnest(%(legal)b::smallint[], %(nth_lease)b::int[], %(notes)b::text[])
              WITH ORDINALITY AS s (legal, lease, note, k))"""

# HOT as long as ready_lane, due_at and claim_id keep their values: a carried lease touches no index.
_ADVANCE = f"""
WITH {_WANTED},
moved AS (
  UPDATE queue q
     SET stage = %(to_stage)s, state = %(to_state)s, lane = %(lane)s,
         ready_lane = CASE WHEN %(to_state)s = 'ready' THEN %(lane)s END,
         claim_id = CASE WHEN %(to_state)s = 'leased' THEN %(claim)s::uuid END,
         wait = %(wait)s, waiting_on = %(waiting_on)s,
         fence = q.fence + %(leases)s, move_no = q.move_no + %(count)s, moved_at = clock(),
         due_at = CASE WHEN %(to_state)s = 'ready' THEN clock() + make_interval(secs => t.delay) ELSE q.due_at END,
         contract_id = coalesce(%(contract_id)s, q.contract_id),
         priority = coalesce(%(priority)s, q.priority),
         rounds = q.rounds + %(round)s,
         crashes = q.crashes + %(crashes)s,
         transients = q.transients + %(transients)s,
         throttles = q.throttles + %(throttles)s,
         contract_breaks = q.contract_breaks + %(contract_breaks)s,
         qa_rejects = q.qa_rejects + %(qa_rejects)s,
         drifts = q.drifts + %(drifts)s
    FROM wanted t
   WHERE {_MATCH}
  RETURNING q.item_id, q.workspace_id, q.order_id, q.fence, q.move_no),{_HISTORY}
SELECT item_id, workspace_id, order_id, fence, move_no
  FROM moved
"""

_END = f"""
WITH {_WANTED},
gone AS (
  DELETE FROM queue q
   USING wanted t
   WHERE {_MATCH}
  RETURNING q.item_id, q.workspace_id, q.order_id, q.pod_id, q.fence, q.move_no, q.contract_id, q.rounds, q.lane,
    q.flow),
moved AS (
  SELECT item_id, workspace_id, order_id, pod_id,
         fence + %(leases)s AS fence,
         move_no + %(count)s AS move_no,
         coalesce(%(contract_id)s, contract_id) AS contract_id,
         rounds, lane, flow
    FROM gone),{_HISTORY},
filed AS (
  INSERT INTO archived_items (item_id, workspace_id, order_id, pod_id, fence, move_no, contract_id, rounds,
                              stage, state, lane, flow, finding, archived_at)
  SELECT item_id, workspace_id, order_id, pod_id, fence, move_no, contract_id, rounds,
         %(to_stage)s, %(to_state)s, lane, flow, %(finding)s, clock()
    FROM moved),
closed AS (
  UPDATE orders o
     SET state = %(to_state)s, closed_at = clock(), finding = %(finding)s
    FROM moved m
   WHERE o.id = ANY (ARRAY[m.order_id])
     AND o.closed_at IS NULL
     AND NOT EXISTS (
       SELECT
         FROM (SELECT id FROM items WHERE order_id = m.order_id OFFSET 0) i
         JOIN queue q ON q.item_id = ANY (ARRAY[i.id])
        WHERE q.item_id NOT IN (SELECT g.item_id FROM gone g)))
SELECT item_id, workspace_id, order_id, fence, move_no
  FROM moved
"""


def perform(conn: Connection, planned: Iterable[Planned], *, by: str, claim_id: UUID | None = None) -> Moved:
    """Record each legal move with its history, and return who moved and who was late.

    Items with the same Route travel in one statement, locked in id order. An item that ends is filed in
    `archived_items`, its order is closed with its last item. Call inside a transaction; what follows from a move
    (artifacts, verdicts, rings) may be written for `done` alone. `claim_id` names the lease that moves open.
    """
    result = Moved()
    # Ordered by id inside the batch: two workers locking overlapping sets in different orders is the only
    # way these statements can deadlock.
    for route, group in _by_route(planned):
        plans = sorted(group)
        rows = conn.execute(
            _END if route.moves[-1].to_state in ARCHIVED else _ADVANCE, _parameters(route, plans, by, claim_id), prepare=True
        ).fetchall()
        for row in map(Position._make, rows):
            result.done[row.item_id] = row
        if len(rows) < len(plans):
            result.refused += [plan.item_id for plan in plans if plan.item_id not in result.done]
    return result


def _by_route(planned: Iterable[Planned]) -> Iterable[tuple[Route, Sequence[Planned]]]:
    groups: dict[Route, list[Planned]] = {}
    for route, run in groupby(planned, key=lambda plan: plan.route):
        groups.setdefault(route, []).extend(run)
    return groups.items()


def _parameters(route: Route, plans: Sequence[Planned], by: str, claim_id: UUID | None) -> dict[str, object]:
    first, last, count = route.moves[0], route.moves[-1], len(route.moves)
    opened, nth_lease = 0, []
    for move in route.moves:
        opened += move.opens_lease
        nth_lease.append(opened)
    values: dict[str, object] = {name: int(cause is route.cause) for cause, name in COUNTERS.items()}
    return values | {
        "ids": [plan.item_id for plan in plans],
        "fences": [plan.fence for plan in plans],
        "delays": [plan.delay_seconds for plan in plans],
        "from_stage": first.from_stage.value,
        "from_state": first.from_state.value,
        "to_stage": last.to_stage.value,
        "to_state": last.to_state.value,
        "lane": route.lane,
        "wait": route.wait.value if route.wait else None,
        "waiting_on": route.waiting_on,
        "claim": claim_id,
        "count": count,
        "leases": opened,
        "legal": [move.number for move in route.moves],
        "nth_lease": nth_lease,
        "notes": [*route.notes, *[""] * (count - len(route.notes))],
        "actor": by,
        "contract_id": route.contract_id,
        "priority": route.priority,
        "round": int(route.round),
        "finding": route.finding,
    }
