"""Claims that failed: the attempts of all items that they still hold end, each by the policy of contracts/attempts.py.

A worker calls this for a claim that it could not bring to an end, the sweeper for one whose lease ran out. Nobody knows which
item was to blame, so all are counted as in a crash; from then on each is claimed alone, and one that fails again takes no other
along. That isolates it in one round, and its ceiling of crashes ends it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import namedtuple_row
from contracts.attempts import Cause, next_attempt
from contracts.lifecycle import Stage, State, move
from queues.claims import close_if_empty
from queues.database import Connection
from queues.mover import COUNTERS, Planned, Route, perform
from queues.throughput import Ending, add_to_minutes


class Ended(NamedTuple):
    """What became of the items of failed claims."""

    items: int
    lanes: frozenset[str]


_HELD = f"""
SELECT q.item_id, q.workspace_id, q.fence, q.stage, q.lane, q.{COUNTERS[Cause.CRASH]} AS crashes,
       c.worker_id, w.ended,
       (SELECT convert_from(k.body, 'UTF8')::json #> '{{limits,attempts}}'
          FROM contracts k
         WHERE k.id = q.contract_id) AS ceilings
  FROM queue q
  JOIN claims c ON c.id = q.claim_id
  JOIN workers w ON w.id = c.worker_id
 WHERE q.claim_id = ANY (%s)
 ORDER BY q.item_id
 LIMIT %s
   FOR NO KEY UPDATE OF q SKIP LOCKED
"""


def fail_claims(conn: Connection, claims: Sequence[UUID], *, by_move: str, by: str, note: str, most: int = 1000) -> Ended:
    """End the attempts of up to `most` items that these claims hold, and close each claim that holds none any more.

    `by_move` is `retry` or `expire`: how an item with attempts left goes back to its lane, after a backoff. Call inside a
    transaction over the items' workspaces, or over all. Where its supervisor saw how the worker ended, the moves say it.
    """
    held: list[Any] = conn.cursor(row_factory=namedtuple_row).execute(_HELD, [list(claims), most]).fetchall()
    planned = []
    for item in held:
        then = next_attempt(Cause.CRASH, item.crashes + 1, item.ceilings)
        step = move("bury" if then.is_last else by_move, Stage(item.stage), State.LEASED)
        said = f"{note}: {item.ended}" if item.ended else note
        route = Route((step,), item.lane, (said[:300],), cause=Cause.CRASH)
        planned.append(Planned(item.item_id, item.fence, route, delay_seconds=then.delay_seconds))
    perform(conn, planned, by=by)
    # Under the worker whose lease it was: nobody else adds to its minutes any more.
    add_to_minutes(conn, Counter(Ending(item.workspace_id, item.lane, item.worker_id, "failed") for item in held))
    for claim in claims:
        close_if_empty(conn, claim)
    return Ended(len(held), frozenset(item.lane for item in held))
