"""Picking: which items an operator means, by name or by what they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from uuid import UUID

from contracts.errors import ShopfloorError
from queues.database import Connection, transaction
from queues.finding import find_items

MOST = 100_000
"""Items that one command may pick by filters."""


@dataclass(frozen=True, slots=True)
class Pick:
    """Which items are meant: all that match every filter given."""

    lane: str | None = None
    stage: str | None = None
    state: str | None = None
    reason: str | None = None
    flow: str | None = None
    order: UUID | None = None
    batch: UUID | None = None


@dataclass(slots=True)
class Picked:
    """The items that were meant, and the names that mean none."""

    items: list[UUID]
    unknown: list[tuple[str, ShopfloorError]] = field(default_factory=list)


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


def picked(conn: Connection, workspace: UUID, pick: Pick, *, most: int = MOST) -> Picked:
    """Return the items that match a pick, at most `most`."""
    values = {part.name: getattr(pick, part.name) for part in fields(pick)}
    with transaction(conn, workspace):
        return Picked([item for (item,) in conn.execute(_FILTERS, values | {"most": most})])


def named(conn: Connection, workspace: UUID, names: Sequence[str]) -> Picked:
    """Return the items that names mean, each once however often it is named, and for every other name why it means none."""
    found = Picked([])
    with transaction(conn, workspace):
        meant = find_items(conn, names, exact=True)
    for name, one in zip(names, meant, strict=True):
        if isinstance(one, ShopfloorError):
            found.unknown.append((name, one))
        else:
            found.items.append(one.item_id)
    found.items = list(dict.fromkeys(found.items))
    return found
