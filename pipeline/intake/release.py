"""Release: what waited for a batch starts once the batch has ended. The intake that ended it does so; the sweeper does for one that died."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.lifecycle import RELEASE, Stage, lane_of
from queues.database import Connection, one_value
from queues.mover import Planned, Route, perform


class _Held(NamedTuple):
    item_id: UUID
    fence: int


_OF_A_BATCH = """
SELECT item_id, fence
  FROM queue
 WHERE wait = 'dependency'
   AND waiting_on = 'batch ' || %s::text
 ORDER BY item_id
 LIMIT %s
   FOR NO KEY UPDATE SKIP LOCKED
"""
_OF_ENDED_BATCHES = """
SELECT q.item_id, q.fence
  FROM queue q
  JOIN batches b ON q.waiting_on = 'batch ' || b.id
 WHERE q.wait = 'dependency'
   AND b.state <> 'reading'
 ORDER BY q.item_id
 LIMIT %s
   FOR NO KEY UPDATE OF q SKIP LOCKED
"""
_ANY_HELD = "SELECT EXISTS (SELECT FROM queue WHERE wait = 'dependency')"


def release_batch(conn: Connection, batch: UUID, *, by: str, note: str, most: int) -> int:
    """Start up to `most` items that wait for a batch; return how many. Call inside a transaction over the workspace."""
    held = conn.cursor(row_factory=class_row(_Held)).execute(_OF_A_BATCH, [batch, most]).fetchall()
    return _release(conn, held, by=by, note=note)


def release_ended(conn: Connection, *, by: str, most: int) -> int:
    """Start up to `most` items that wait for a batch that has ended; return how many. Call inside a transaction over all workspaces."""
    held = conn.cursor(row_factory=class_row(_Held)).execute(_OF_ENDED_BATCHES, [most]).fetchall()
    return _release(conn, held, by=by, note="its batch is complete")


def is_any_held(conn: Connection) -> bool:
    """Return whether anything waits for a batch."""
    return bool(one_value(conn, _ANY_HELD))


def _release(conn: Connection, held: Sequence[_Held], *, by: str, note: str) -> int:
    route = Route((RELEASE,), lane_of(Stage.ROUTE), (note,))
    return len(perform(conn, [Planned(one.item_id, one.fence, route) for one in held], by=by).done)
