"""What people may do to a queue row besides moving it. Stage, state, fence and move number are the mover's alone."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.lifecycle import Wait
from queues.database import Connection


class LockedRow(NamedTuple):
    """Where an item is; nobody can move it before the transaction ends."""

    fence: int
    stage: str
    state: str
    lane: str

    @property
    def place(self) -> str:
        """Stage and state, for a message."""
        return f"{self.stage}/{self.state}"


_LOCK = "SELECT fence, stage, state, lane FROM queue WHERE item_id = %s FOR NO KEY UPDATE"


def lock_item(conn: Connection, item: UUID) -> LockedRow | None:
    """Lock the row of one item and return where it is; None for an item that has ended."""
    with conn.cursor(row_factory=class_row(LockedRow)) as cursor:
        return cursor.execute(_LOCK, [item]).fetchone()


_RESET_ATTEMPTS = """
UPDATE queue
   SET crashes = least(crashes, 1), transients = 0, throttles = 0, contract_breaks = 0, qa_rejects = 0, drifts = 0
 WHERE item_id = ANY(%s)
"""


def reset_attempts(conn: Connection, items: Sequence[UUID]) -> None:
    """Count the attempts of items anew, because a person wants another run. One that was in a crash is still claimed alone."""
    conn.execute(_RESET_ATTEMPTS, [list(items)])


_AWAIT = "UPDATE queue SET wait = %s, waiting_on = %s WHERE item_id = %s AND state = 'waiting'"


def await_second_approval(conn: Connection, item: UUID, waiting_on: str) -> None:
    """Mark an item as waiting for a second reviewer; it stays where it is."""
    conn.execute(_AWAIT, [Wait.SECOND_APPROVAL.value, waiting_on, item])


# A dead letter ends by the move that buried it: there is no further move to record, only its row to file.
_FILE_DEAD = """
WITH gone AS (
  DELETE FROM queue
   WHERE item_id = ANY(%s) AND state = 'dead'
  RETURNING *),
filed AS (
  INSERT INTO archived_items (item_id, workspace_id, order_id, pod_id, fence, move_no, contract_id, rounds,
                              stage, state, lane, flow, finding, archived_at)
  SELECT item_id, workspace_id, order_id, pod_id, fence, move_no, contract_id, rounds,
         stage, state, lane, flow, 'dead', clock()
    FROM gone)
UPDATE orders o
   SET state = 'dead', closed_at = clock(), finding = 'dead'
  FROM gone g
 WHERE o.id = g.order_id
   AND o.state = 'open'
   AND NOT EXISTS (
     SELECT
       FROM items i
       JOIN queue q ON q.item_id = i.id
      WHERE i.order_id = g.order_id AND q.item_id NOT IN (SELECT item_id FROM gone))
"""


def file_dead(conn: Connection, items: Sequence[UUID]) -> None:
    """Take dead letters out of the hot table for good, and close each order with its last item."""
    conn.execute(_FILE_DEAD, [list(items)])
