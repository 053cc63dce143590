"""Withdrawal: take back revisions that should not have come in, so that true rows of their subjects no longer count as older."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.errors import Conflict
from contracts.lifecycle import State
from pipeline.intake.arrivals import known_orders
from pipeline.operations.acts import CHUNK, ItemResult
from pipeline.operations.steering import cancel, prune
from queues.audit import record_audit_of_items
from queues.database import Connection, transaction


class _OrderOfItem(NamedTuple):
    item_id: UUID
    order_id: UUID
    subject_key: str
    flow: str
    revision: str
    state: str
    queued: str | None
    """State of the item's row in the queue; None once it has ended."""
    is_withdrawn: bool

    @property
    def name(self) -> str:
        """The order in a message."""
        return f"revision {self.revision[:40]} of {self.subject_key[:80]} (order {self.order_id})"


_ORDERS = """
SELECT i.id AS item_id,
       o.id AS order_id,
       o.subject_key, o.flow, o.revision, o.state,
       q.state AS queued,
       o.withdrawn_at IS NOT NULL AS is_withdrawn
  FROM items i
  JOIN orders o ON o.id = i.order_id
  LEFT JOIN queue q ON q.item_id = i.id
 WHERE i.id = ANY(%s)
"""


def withdraw(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[ItemResult]:
    """Take back the revisions that items belong to: later rows are compared with the other revisions of the subject.

    What has not ended is cancelled first, a dead letter pruned; an item that cannot be is refused. A revision that was superseded
    by one of these, and is now the newest, is taken back as well: its row may come in again. Killed in between, orders are
    cancelled and not yet withdrawn; the same call again goes on.
    """
    found = _read(conn, workspace, items)
    living = [item for item in items if item in found and found[item].queued not in (None, State.DEAD)]
    dead = [item for item in items if item in found and found[item].queued == State.DEAD]
    ended = cancel(conn, workspace, living, by=by, why=why, dry_run=dry_run) + prune(conn, workspace, dead, by=by, why=why, dry_run=dry_run)
    results = {one.item_id: one for one in ended if one.error is not None}
    rest = [item for item in items if item in found and item not in results]
    for start in range(0, len(rest), CHUNK):
        results |= _mark(conn, workspace, rest[start : start + CHUNK], by=by, why=why, dry_run=dry_run)
    return [results[item] for item in items if item in results]


def _read(conn: Connection, workspace: UUID, items: Sequence[UUID]) -> dict[UUID, _OrderOfItem]:
    with transaction(conn, workspace), conn.cursor(row_factory=class_row(_OrderOfItem)) as cursor:
        return {row.item_id: row for row in cursor.execute(_ORDERS, [list(items)])}


# One withdrawal at a time in a workspace: which revision is the newest left depends on what others withdraw.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('withdraw ' || %s::text, 0))"
_WITHDRAW = "UPDATE orders SET withdrawn_at = clock() WHERE id = ANY(%s) AND withdrawn_at IS NULL"


def _mark(
    conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool
) -> dict[UUID, ItemResult]:  # fmt: skip
    """Withdraw the orders of items that have ended, in one transaction. What has ended stays so: no row needs a lock."""
    results: dict[UUID, ItemResult] = {}
    with transaction(conn, workspace), conn.cursor(row_factory=class_row(_OrderOfItem)) as cursor:
        if not dry_run:
            conn.execute(_ALONE, [workspace])
        rows = cursor.execute(_ORDERS, [list(items)]).fetchall()
        taken = []
        for row in rows:
            try:
                _refuse_unfit(row, dry_run=dry_run)
            except Conflict as error:
                results[row.item_id] = ItemResult(row.item_id, row.subject_key, error=error)
            else:
                taken.append(row)
                results[row.item_id] = ItemResult(row.item_id, row.subject_key, "would be withdrawn" if dry_run else "withdrawn")
        if taken and not dry_run:
            conn.execute(_WITHDRAW, [[row.order_id for row in taken]])
            _open_the_way(conn, workspace, taken)
            record_audit_of_items(conn, workspace, by=by, action="withdraw", items=[row.item_id for row in taken], why=why)
    return results


def _refuse_unfit(row: _OrderOfItem, *, dry_run: bool) -> None:
    if row.is_withdrawn:
        raise Conflict(f"{row.name} was withdrawn before", hint=f"shopfloor show {row.order_id}", code="order.withdrawn")
    if row.state == "open" and not dry_run:
        raise Conflict(f"{row.name} is open: another item of it is in progress", hint=f"shopfloor items --order {row.order_id}")


def _open_the_way(conn: Connection, workspace: UUID, taken: Sequence[_OrderOfItem]) -> None:
    """Let other revisions of these subjects in: those that a withdrawn one superseded, and any in the text index."""
    by_flow: dict[str, list[_OrderOfItem]] = defaultdict(list)
    for row in taken:
        by_flow[row.flow].append(row)
    for flow, rows in by_flow.items():
        newest = [orders[0] for orders in known_orders(conn, flow, (row.subject_key for row in rows)).values()]
        superseded = sorted(order.order_id for order in newest if order.state == State.SUPERSEDED)
        conn.execute(_WITHDRAW, [superseded])
        keys, revisions = [row.subject_key for row in rows], [row.revision for row in rows]
        conn.execute("SELECT outdate_subjects(%s, %s, %s, %s)", [workspace, flow, keys, revisions])
