"""Rows of worker processes: who lives, where, which lanes it serves, and which contracts it can run."""

from collections.abc import Sequence
from uuid import UUID

from queues.database import Connection

_REGISTER = """
INSERT INTO workers (id, name, host, pid, lanes, runs)
VALUES (%s, %s, %s, %s, %s, %s::bytea[])
    ON CONFLICT (id)
    DO UPDATE SET lanes = excluded.lanes, runs = excluded.runs, beat_at = clock()
"""


def register(
    conn: Connection, worker_id: UUID, *, name: str, host: str, pid: int, lanes: list[str], runs: Sequence[bytes] = ()
) -> None:  # fmt: skip
    """Record a worker process as alive, with the lanes that it serves and the hashes of the contracts that it has the code for."""
    conn.execute(_REGISTER, [worker_id, name, host, pid, lanes, list(runs)])


def retire(conn: Connection, worker_id: UUID) -> None:
    """Record that a worker process ended on its own accord."""
    conn.execute("UPDATE workers SET stopped_at = clock() WHERE id = %s", [worker_id])


_RECORD_END = """
UPDATE workers
   SET ended = %(how)s, stopped_at = coalesce(stopped_at, clock())
 WHERE id = (SELECT id
               FROM workers
              WHERE host = %(host)s
                AND pid = %(pid)s
              ORDER BY started_at DESC
              LIMIT 1)
"""


def record_end(conn: Connection, *, host: str, pid: int, how: str) -> None:
    """Record how a worker's process ended, as its supervisor saw it; nothing for a process that is no worker."""
    conn.execute(_RECORD_END, {"host": host, "pid": pid, "how": how})
