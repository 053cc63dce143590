"""Decisions that a call recorded and did not follow, and proposals that expired unanswered."""

from contracts.lifecycle import LAPSE, Stage, lane_of
from contracts.proposals import ClearanceState
from pipeline.review.clearances import after_decision
from queues.database import Connection, transaction
from queues.mover import Planned, Route, perform

_MOST = 1000

_LAPSED = Route((LAPSE,), lane_of(Stage.REWORK), ("the proposal expired before anything was done",))
_DECIDED = """
SELECT q.item_id, q.fence, c.state, p.adapter, p.expires_at <= clock() FROM clearances c
  JOIN proposals p ON p.id = c.proposal_id AND p.state IN ('approved', 'rejected', 'returned')
  JOIN queue q ON q.item_id = p.item_id AND q.stage = 'qa' AND q.state = 'waiting'
 WHERE c.needed > 0
   AND c.state IN ('cleared', 'refused', 'returned')
   AND c.closed_at > clock() - make_interval(days => %s)
   AND NOT EXISTS (SELECT FROM proposals later WHERE later.item_id = p.item_id AND later.epoch > p.epoch)
 ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""


def follow_decisions(conn: Connection, *, days: int = 1) -> int:
    """Move the items whose clearance was decided, within so many days, by a call that did not move them.

    Such as psql, or a console that died. An approval that expired before it was followed is redone.
    """
    with transaction(conn, None):
        rows = conn.execute(_DECIDED, [days, _MOST]).fetchall()
        late = [item for item, _, state, _, is_late in rows if state == ClearanceState.CLEARED and is_late]
        if late:
            conn.execute("SELECT void_proposals(%s, 'expired')", [late])
        planned = [
            Planned(item, fence, _LAPSED if item in late else after_decision(ClearanceState(state), adapter, "decided"))
            for item, fence, state, adapter, _ in rows
        ]
        return len(perform(conn, planned, by="sweeper").done)


_EXPIRED = """
SELECT q.item_id, q.fence
  FROM proposals p
  JOIN queue q ON q.item_id = p.item_id AND q.stage = 'qa' AND q.state = 'waiting'
 WHERE p.is_open AND p.expires_at <= clock() ORDER BY q.item_id LIMIT %s FOR NO KEY UPDATE OF q SKIP LOCKED
"""


def lapse_proposals(conn: Connection) -> int:
    """Send proposals that expired unanswered to be redone: never dropped, never executed."""
    with transaction(conn, None):
        rows = conn.execute(_EXPIRED, [_MOST]).fetchall()
        if not rows:
            return 0
        conn.execute("SELECT void_proposals(%s, 'expired')", [[item for item, _ in rows]])
        return len(perform(conn, [Planned(item, fence, _LAPSED) for item, fence in rows], by="sweeper").done)
