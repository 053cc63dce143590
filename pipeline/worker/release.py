"""Returning: what a worker does with the items of a claim that it cannot bring to an end."""

from uuid import UUID

from contracts.attempts import CEILINGS, Cause
from contracts.lifecycle import Stage, State, move
from pipeline.stages.retries import backoff_seconds
from queues.claims import close_if_empty
from queues.database import Connection
from queues.mover import COUNTERS, Planned, Route, perform

_LEFT = f"""
SELECT item_id, fence, stage, lane, {COUNTERS[Cause.TRANSIENT]} FROM queue WHERE claim_id = %s ORDER BY item_id FOR NO KEY UPDATE SKIP LOCKED
"""


def return_counted(conn: Connection, claim_id: UUID, *, by: str, note: str) -> list[str]:
    """Return to their lanes, after a backoff, the items that a claim still holds, each with an accident counted; return the lanes.

    At the ceiling they are buried: what fails for ever must not come round for ever. Call inside a transaction over
    their workspaces.
    """
    planned: list[Planned] = []
    lanes: set[str] = set()
    for item, fence, stage, lane, counted in conn.execute(_LEFT, [claim_id]).fetchall():
        last = counted + 1 >= CEILINGS[Cause.TRANSIENT]
        route = Route((move("bury" if last else "retry", Stage(stage), State.LEASED),), lane, (note,), cause=Cause.TRANSIENT)
        planned.append(Planned(item, fence, route, delay_seconds=0.0 if last else backoff_seconds(Cause.TRANSIENT, counted + 1)))
        lanes.add(lane)
    perform(conn, planned, by=by)
    close_if_empty(conn, claim_id)
    return sorted(lanes)
