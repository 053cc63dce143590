"""Superseding: work on older revisions ends when a newer one arrives, in whatever stage, but never in the middle of an apply."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.lifecycle import Stage, State, move
from pipeline.intake.arrivals import Decision, Decisions, Older
from queues.database import Connection
from queues.mover import Planned, Route, perform
from queues.predicates import EFFECT_IN_FLIGHT


class _OpenItem(NamedTuple):
    item_id: UUID
    fence: int
    stage: str
    state: str
    lane: str
    order_id: UUID
    in_flight: bool


# Locked in id order, like every set of items. Dead letters stay: their order ends, and with it the way back.
_OPEN_ITEMS = f"""
SELECT q.item_id, q.fence, q.stage, q.state, q.lane, i.order_id, {EFFECT_IN_FLIGHT} AS in_flight
  FROM (SELECT i.*
          FROM unnest(%s::uuid[]) AS t (order_id)
         CROSS JOIN LATERAL (SELECT id, order_id FROM items WHERE items.order_id = t.order_id OFFSET 0) i
         ORDER BY i.id
        OFFSET 0) i
 CROSS JOIN LATERAL (SELECT * FROM queue WHERE item_id = i.id FOR NO KEY UPDATE) q
"""
_CLOSE = """
UPDATE orders
   SET state = 'superseded', closed_at = clock(), finding = 'superseded'
 WHERE id = ANY(%s)
   AND state = 'open'
"""
_NOTE = "a newer revision arrived"


class BeingApplied(Exception):
    """An older revision is being applied right now; that takes a moment."""


def supersede(conn: Connection, older: Sequence[Older], decisions: Decisions, *, by: str, patient: bool) -> int:
    """End the open work of older revisions, their proposals first, and return how many orders that ended.

    An order with an effect in flight, or one whose effect nobody knows yet, has to end by itself: raises BeingApplied while a
    worker is on it and the caller is `patient`; else its newer revision is rejected as `intake.busy`, in `decisions`.
    """
    if not older:
        return 0
    items = conn.cursor(row_factory=class_row(_OpenItem)).execute(_OPEN_ITEMS, [[one.order_id for one in older]], prepare=False).fetchall()
    busy = set()
    for item in items:
        is_leased = (item.stage, item.state) == ("apply", "leased")
        if is_leased and patient:
            raise BeingApplied
        if is_leased or item.in_flight:
            busy.add(item.order_id)
    for one in older:
        if one.order_id in busy:
            message = "an older revision is being applied, or its effect is not known yet"
            decisions[one.by] = Decision("rejected", "intake.busy", message=message, order_id=one.order_id)
    ended = [one.order_id for one in older if one.order_id not in busy]
    planned: list[Planned] = []
    for item in items:
        if item.order_id not in busy and item.state != "dead":
            step = move("supersede", Stage(item.stage), State(item.state))
            planned.append(Planned(item.item_id, item.fence, Route((step,), item.lane, (_NOTE,), finding="superseded")))
    if planned:
        conn.execute("SELECT void_proposals(%s, 'superseded')", [[plan.item_id for plan in planned]])
    perform(conn, planned, by=by)
    # Orders without a live item end here: of a dead letter, or of one that a crash left without.
    conn.execute(_CLOSE, [ended])
    return len(ended)
