"""The minutes of lanes: how many items each worker finished, failed or gave back, by workspace and lane."""

from collections import Counter
from typing import NamedTuple
from uuid import UUID

from queues.database import Connection


class Ending(NamedTuple):
    """What a step left of an item in a lane: the worker whose lease it was, and `finished`, `failed` or `returned`."""

    workspace_id: UUID
    lane: str
    worker_id: UUID
    column: str


_ADD = """
INSERT INTO lane_minutes (workspace_id, lane, minute, worker_id, finished, failed, returned)
SELECT t.workspace_id, t.lane, date_trunc('minute', clock()), t.worker_id, t.finished, t.failed, t.returned
  FROM unnest(%b::uuid[], %b::text[], %b::uuid[], %b::bigint[], %b::bigint[], %b::bigint[])
    AS t (workspace_id, lane, worker_id, finished, failed, returned)
    ON CONFLICT (minute, lane, workspace_id, worker_id)
    DO UPDATE SET finished = lane_minutes.finished + excluded.finished,
                  failed = lane_minutes.failed + excluded.failed,
                  returned = lane_minutes.returned + excluded.returned
"""


def add_to_minutes(conn: Connection, endings: Counter[Ending]) -> None:
    """Add how often each ending was to the present minute. Call inside a transaction over the workspaces, or over all."""
    rows = sorted({ending[:3] for ending in endings}, key=str)  # in one order, whoever writes: two then wait, and do not deadlock
    if rows:
        columns = ([endings[Ending(*row, name)] for row in rows] for name in ("finished", "failed", "returned"))
        conn.execute(_ADD, [*map(list, zip(*rows, strict=True)), *columns], prepare=True)
