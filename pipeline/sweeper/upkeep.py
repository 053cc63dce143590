"""Upkeep: what need not be done each second."""

from pipeline.sweeper.decisions import follow_decisions
from queues.database import Connection, one_value, transaction

_MINUTES_DAYS = 30
_ALL_DAYS = 36_500


def upkeep(conn: Connection) -> int:
    """Make partitions ahead and do what need not be done each second; return how many partitions were made.

    Workers that have been silent for long are marked as stopped, decisions of any age followed, old minutes forgotten.
    """
    with transaction(conn, None):
        made: int = one_value(conn, "SELECT extend_partitions()")
        # A claim is closed with its last item. One that is not, were it ever to be, would keep that item for good.
        conn.execute(
            """
            UPDATE claims
               SET closed_at = NULL
             WHERE closed_at IS NOT NULL
               AND id IN (SELECT claim_id FROM queue WHERE claim_id IS NOT NULL)
            """
        )
        conn.execute("UPDATE workers SET stopped_at = clock() WHERE stopped_at IS NULL AND beat_at < clock() - interval '10 minutes'")
        conn.execute("DELETE FROM lane_minutes WHERE minute < clock() - make_interval(days => %s)", [_MINUTES_DAYS])
    follow_decisions(conn, days=_ALL_DAYS)  # no sweeper may have run for days
    return made
