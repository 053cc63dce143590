"""Batches: what waits for one that has ended starts, and one whose intake died is ended."""

from contracts.lifecycle import RELEASE, Stage, lane_of
from pipeline.intake.batch_book import fail_abandoned
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform

_ABANDONED_SECONDS = 600.0
"""Time for somebody to run a killed intake again, which then goes on where it stopped."""
_MOST = 1000

_COMPLETE = """
SELECT q.item_id, q.fence FROM queue q JOIN batches b ON q.waiting_on = 'batch ' || b.id
 WHERE q.wait = 'dependency' AND b.state <> 'reading' ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""
_WAITING_BATCHES = "SELECT EXISTS (SELECT FROM queue WHERE wait = 'dependency')"


def release_dependants(conn: Connection) -> int:
    """Start what waited for a batch that is complete: an intake that died after its last row releases nothing itself."""
    row = conn.execute(_WAITING_BATCHES).fetchone()
    if not (row and row[0]):
        return 0
    with transaction(conn, None):
        route = Route((RELEASE,), lane_of(Stage.ROUTE), ("its batch is complete",))
        planned = [Planned(item, fence, route) for item, fence in conn.execute(_COMPLETE, [_MOST]).fetchall()]
        return len(perform(conn, planned, by="sweeper").done)


def end_abandoned(conn: Connection) -> int:
    """End batches whose intake died and did not come back, so that what waits for them may start."""
    return fail_abandoned(conn, seconds=_ABANDONED_SECONDS)
