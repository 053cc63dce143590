"""Expired leases: the items of a worker that died or hung go back to their lanes."""

from psycopg.rows import scalar_row
from pipeline.failpoints import failpoint
from queues.database import Connection, transaction
from queues.failed_claims import fail_claims

_EXPIRED = """
SELECT id
  FROM claims
 WHERE closed_at IS NULL
   AND until < clock()
 ORDER BY id
 LIMIT 50
   FOR UPDATE SKIP LOCKED
"""


def expire_leases(conn: Connection) -> int:
    """End the attempts of claims that ran out: their items are ready again after a backoff, or dead at the ceiling of crashes."""
    with transaction(conn, None):
        expired = conn.cursor(row_factory=scalar_row).execute(_EXPIRED).fetchall()
        if not expired:
            return 0
        ended = fail_claims(conn, expired, by_move="expire", by="sweeper", note="the lease ran out: its worker died or hung")
    failpoint("sweep.expired")
    return ended.items
