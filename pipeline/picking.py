"""Picking: which items an operator means, by name or by what they have in common."""

from dataclasses import dataclass, fields
from uuid import UUID

from queues.database import Connection, transaction

MOST = 100_000
"""Items that one command may pick by filters."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Which items are meant: by id, or all that match every filter given."""

    ids: tuple[UUID, ...] = ()
    lane: str | None = None
    stage: str | None = None
    state: str | None = None
    reason: str | None = None
    flow: str | None = None
    order: UUID | None = None
    batch: UUID | None = None


_FILTERS = """
SELECT q.item_id FROM queue q
 WHERE (%(lane)s::text IS NULL OR q.lane = %(lane)s) AND (%(stage)s::text IS NULL OR q.stage = %(stage)s)
   AND (%(state)s::text IS NULL OR q.state = %(state)s) AND (%(flow)s::text IS NULL OR q.flow = %(flow)s)
   AND (%(order)s::uuid IS NULL OR q.order_id = %(order)s)
   AND (%(batch)s::uuid IS NULL OR EXISTS (SELECT FROM items i WHERE i.id = q.item_id AND i.batch_id = %(batch)s))
   AND (%(reason)s::text IS NULL
        OR EXISTS (SELECT FROM standing s WHERE s.item_id = q.item_id AND s.reason = %(reason)s))
 ORDER BY q.item_id LIMIT %(most)s
"""


def picked(conn: Connection, workspace: UUID, pick: Pick, *, most: int = MOST) -> list[UUID]:
    """Return the ids that a pick means, at most `most` by filters; ids given by name are not looked up here."""
    if pick.ids:
        return list(pick.ids)
    values = {part.name: getattr(pick, part.name) for part in fields(pick) if part.name != "ids"}
    with transaction(conn, workspace):
        return [item for (item,) in conn.execute(_FILTERS, values | {"most": most})]
