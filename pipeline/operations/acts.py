"""One act on many items: locked in id order, refused one by one with a reason, the rest carried out a chunk at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.errors import Conflict, NotFound, ShopfloorError
from queues.audit import record_audit_of_items
from queues.database import Connection, transaction
from queues.marks import reset_attempts
from queues.mover import Planned, perform
from queues.predicates import EFFECT_IN_FLIGHT

CHUNK = 1000
"""Items that one transaction changes."""


class LockedItem(NamedTuple):
    """Where an item is; nobody else can move it before the transaction ends."""

    item_id: UUID
    fence: int
    stage: str
    state: str
    lane: str
    wait: str | None
    is_routed: bool
    subject: str
    in_flight: bool
    """True when an apply was begun whose effect is not known."""

    @property
    def name(self) -> str:
        """The item in a message."""
        return f"item {self.item_id} ({self.subject[:80]})"


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What an act did to one item; `error` says why it did nothing."""

    item_id: UUID
    subject: str
    outcome: str = ""
    error: ShopfloorError | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """One verb on many items."""

    name: str
    by: str
    why: str
    outcome: str
    plan: Callable[[LockedItem], Planned | None]
    """Returns the move of an item, None when the act does not move it; raises why it may not be done to it."""
    before: Callable[[Connection, UUID, Sequence[LockedItem], str], None] | None = None
    """Writes what belongs to the act besides the moves, in their transaction and before them."""
    is_new_run: bool = False
    """True when the attempts of the items are counted anew."""


_LOCK = """
SELECT
  FROM queue
 WHERE item_id = ANY(%s)
 ORDER BY item_id
   FOR NO KEY UPDATE
"""
# Read after the lock, in a statement of its own: one statement would see applies as they were before it waited.
_READ = f"""
SELECT q.item_id,
       q.fence,
       q.stage,
       q.state,
       q.lane,
       q.wait,
       q.contract_id IS NOT NULL AS is_routed,
       o.subject_key AS subject,
       {EFFECT_IN_FLIGHT} AS in_flight
  FROM queue q
  JOIN orders o ON o.id = q.order_id
 WHERE q.item_id = ANY(%s)
 ORDER BY q.item_id
"""


def carry_out(conn: Connection, workspace: UUID, items: Sequence[UUID], act: Act, *, dry_run: bool) -> list[ItemResult]:
    """Do one act to items, a chunk to a transaction, and return a result for each in the order given.

    A `dry_run` locks and writes nothing.
    """
    results: dict[UUID, ItemResult] = {}
    for start in range(0, len(items), CHUNK):
        chunk = list(items[start : start + CHUNK])
        with transaction(conn, workspace):
            if not dry_run:
                conn.execute(_LOCK, [chunk])
            with conn.cursor(row_factory=class_row(LockedItem)) as cursor:
                locked = cursor.execute(_READ, [chunk]).fetchall()
            planned: list[tuple[LockedItem, Planned | None]] = []
            for item in locked:
                try:
                    planned.append((item, act.plan(item)))
                except ShopfloorError as error:
                    results[item.item_id] = ItemResult(item.item_id, item.subject, error=error)
            results |= _without_row(conn, set(chunk) - {item.item_id for item in locked})
            if planned and not dry_run:
                _write(conn, workspace, planned, act)
        outcome = f"would be {act.outcome}" if dry_run else act.outcome
        results |= {item.item_id: ItemResult(item.item_id, item.subject, outcome) for item, _ in planned}
    return [results[item] for item in items]


def _write(conn: Connection, workspace: UUID, planned: Sequence[tuple[LockedItem, Planned | None]], act: Act) -> None:
    locked = [item for item, _ in planned]
    ids = [item.item_id for item in locked]
    if act.before:
        act.before(conn, workspace, locked, act.why)
    # The rows are locked: none of these can be refused.
    perform(conn, [move for _, move in planned if move is not None], by=act.by)
    if act.is_new_run:
        reset_attempts(conn, ids)
    record_audit_of_items(conn, workspace, by=act.by, action=act.name, items=ids, why=act.why)


_WITHOUT_ROW = """
SELECT i.id, o.subject_key, a.state
  FROM items i
  JOIN orders o ON o.id = i.order_id
  LEFT JOIN archived_items a ON a.item_id = i.id
 WHERE i.id = ANY(%s)
"""


def _without_row(conn: Connection, items: set[UUID]) -> dict[UUID, ItemResult]:
    """Return the refusal of items that have no row in the queue: each has ended, or was never in this workspace."""
    if not items:
        return {}
    found: dict[UUID, ItemResult] = {}
    for item, subject, state in conn.execute(_WITHOUT_ROW, [list(items)]):
        message = f"item {item} ({subject[:80]}) has ended {state or 'meanwhile'}"
        found[item] = ItemResult(item, subject, error=Conflict(message, hint=f"shopfloor history {item}", code="item.ended"))
    for item in items - found.keys():
        found[item] = ItemResult(item, "", error=NotFound(f"no item {item} in this workspace", hint="shopfloor items"))
    return found
