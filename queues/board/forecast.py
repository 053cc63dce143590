"""When a ready item's turn comes: what is ahead of it, and a range of time from the minutes that were measured."""

from typing import Any

from queues.board.endings import Explanation, format_duration, one_row
from queues.database import Connection
from queues.predicates import SERVES

_MOST_AHEAD = 10_000
_PACE_MINUTES = 10
_LEAST_MINUTES = 3
"""Whole minutes that have to be known before a forecast is made of them."""

# Pods take turns: of every other pod as many items come first as of its own.
_AHEAD = f"""
WITH own AS (
  SELECT q.*,
         (SELECT count(*) FROM (
            SELECT FROM queue b
             WHERE b.ready_lane = q.ready_lane
               AND b.workspace_id = q.workspace_id
               AND b.pod_id = q.pod_id
               AND (b.priority, b.due_at, b.item_id) < (q.priority, q.due_at, q.item_id)
             LIMIT {_MOST_AHEAD}) x) AS ahead
    FROM queue q
   WHERE q.item_id = %s)
SELECT q.ahead,
       q.ahead + (
         SELECT coalesce(sum(o.items), 0)
           FROM pods p
          CROSS JOIN LATERAL (
            SELECT count(*) AS items FROM (
              SELECT FROM queue b
               WHERE b.ready_lane = q.ready_lane AND b.workspace_id = q.workspace_id AND b.pod_id = p.id
               LIMIT q.ahead) y) o
          WHERE p.workspace_id = q.workspace_id AND p.id <> q.pod_id)::bigint AS turns,
       (SELECT count(*) FROM workers w WHERE {SERVES}) AS workers
  FROM own q
"""
_PACE = f"""
SELECT extract(epoch FROM date_trunc('minute', clock()) - m.minute)::int / 60 AS ago,
       sum(m.finished)::int AS finished
  FROM lane_minutes m
 WHERE m.lane = %s
   AND m.workspace_id = %s
   AND m.minute >= date_trunc('minute', clock()) - interval '{_PACE_MINUTES} minutes'
   AND m.minute < date_trunc('minute', clock())
 GROUP BY m.minute
HAVING sum(m.finished) > 0
"""


def explain_ready(conn: Connection, row: dict[str, Any]) -> Explanation:
    """Return how many items come before one that is ready, and how long that may take."""
    turn = one_row(conn, _AHEAD, row["item_id"])
    assert turn is not None
    serve = "1 worker serves" if turn["workers"] == 1 else f"{turn['workers']} workers serve"
    many = f"{turn['ahead']} or more" if turn["ahead"] == _MOST_AHEAD else str(turn["ahead"])
    return Explanation(
        f"{serve} lane {row['lane']}, {many} items ahead of it in its pod",
        f"a worker takes it when its turn comes{_forecast(conn, row, turn['turns'])}",
        None,
        ("shopfloor status",),
    )


def _forecast(conn: Connection, row: dict[str, Any], items: int) -> str:
    """Return how long so many items take, by the slowest and the fastest whole minute of late; nothing when too few are known.

    A minute counts from the second one in which the lane finished something: in the first it may have begun at the end.
    """
    finished: dict[int, int] = dict(conn.execute(_PACE, [row["lane"], row["workspace_id"]]))
    known = [finished.get(ago, 0) for ago in range(1, max(finished, default=0))]
    if len(known) < _LEAST_MINUTES or not max(known) or not items:
        return ""
    soonest = format_duration(60 * items / max(known))
    latest = format_duration(60 * items / min(known)) if min(known) else "more"
    span = f"about {soonest}" if soonest == latest else f"{soonest} to {latest}" if min(known) else f"{soonest} or more"
    return f": {span} at the pace of the last {len(known)} minutes"
