"""Superseding: work on older revisions ends when a newer one arrives, wherever it stands, but never in the middle of an apply."""

from collections.abc import Sequence
from uuid import UUID

from contracts.lifecycle import Stage, State, move
from pipeline.intake.arrivals import Older
from queues.database import Connection
from queues.mover import Planned, Route, perform
from queues.predicates import EFFECT_IN_FLIGHT

# Locked in id order, like every set of items. Dead letters stay: their order ends, and with it the way back.
_OPEN_ITEMS = f"""
SELECT q.item_id, q.fence, q.stage, q.state, q.lane, i.order_id,
       {EFFECT_IN_FLIGHT} AS in_flight
  FROM (SELECT i.* FROM unnest(%s::uuid[]) AS t (order_id)
         CROSS JOIN LATERAL (SELECT id, order_id FROM items WHERE items.order_id = t.order_id OFFSET 0) i ORDER BY i.id OFFSET 0) i
 CROSS JOIN LATERAL (SELECT * FROM queue WHERE item_id = i.id FOR NO KEY UPDATE) q
"""
_CLOSE = "UPDATE orders SET state = 'superseded', closed_at = clock(), finding = 'superseded' WHERE id = ANY(%s) AND state = 'open'"
_NOTE = "a newer revision arrived"


class BeingApplied(Exception):
    """An older revision is in the hands of the apply process right now; that takes a moment."""


def supersede(conn: Connection, older: Sequence[Older], *, by: str, patient: bool) -> int:
    """End the open work of older revisions, their proposals first, and return how many orders that ended.

    An order with an effect in flight, or one whose effect nobody knows yet, has to end by itself: raises BeingApplied while a
    worker is on it and the caller is `patient`; else its newer revision is rejected as `intake.busy`.
    """
    if not older:
        return 0
    rows = conn.execute(_OPEN_ITEMS, [[one.order_id for one in older]], prepare=False).fetchall()
    busy = set()
    for _, _, stage, state, _, order, in_flight in rows:
        is_leased = (stage, state) == ("apply", "leased")
        if is_leased and patient:
            raise BeingApplied
        if is_leased or in_flight:
            busy.add(order)
    _turn_away(older, busy)
    ended = [one.order_id for one in older if one.order_id not in busy]
    planned: list[Planned] = []
    for item, fence, stage, state, lane, order, _ in rows:
        if order not in busy and state != "dead":
            route = Route((move("supersede", Stage(stage), State(state)),), lane, (_NOTE,), finding="superseded")
            planned.append(Planned(item, fence, route))
    _void(conn, [wish.item_id for wish in planned])
    perform(conn, planned, by=by)
    # Orders without a live item end here: of a dead letter, or of one that a crash left without.
    conn.execute(_CLOSE, [ended])
    return len(ended)


def _void(conn: Connection, items: list[UUID]) -> None:
    if items:
        conn.execute("SELECT void_proposals(%s, 'superseded')", [items])


def _turn_away(older: Sequence[Older], busy: set[UUID]) -> None:
    for one in older:
        if one.order_id in busy:
            message = "an older revision is being applied, or its effect is not known yet"
            one.by.end("rejected", "intake.busy", one.order_id, message)
