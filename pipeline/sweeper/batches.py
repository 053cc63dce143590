"""Batches: what waits for one that has ended starts, and one whose intake died is ended."""

from pipeline.intake.batch_book import fail_abandoned
from pipeline.intake.release import is_any_held, release_ended
from queues.database import Connection, transaction

_ABANDONED_SECONDS = 600.0
"""Time for somebody to run a killed intake again, which then goes on where it stopped."""
_MOST = 1000


def release_dependants(conn: Connection) -> int:
    """Start what waited for a batch that is complete: an intake that died after its last row releases nothing itself."""
    if not is_any_held(conn):
        return 0
    with transaction(conn, None):
        return release_ended(conn, by="sweeper", most=_MOST)


def end_abandoned(conn: Connection) -> int:
    """End batches whose intake died and did not come back, so that what waits for them may start."""
    return fail_abandoned(conn, seconds=_ABANDONED_SECONDS)
