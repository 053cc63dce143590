"""Rows of worker processes: who lives, where, which lanes it serves, and which contracts it can run."""

from collections.abc import Sequence
from uuid import UUID

from queues.database import Connection


def register(
    conn: Connection, worker_id: UUID, *, name: str, host: str, pid: int, lanes: list[str], runs: Sequence[bytes] = ()
) -> None:  # fmt: skip
    """Record a worker process as alive, with the lanes that it serves and the hashes of the contracts that it has the code for."""
    conn.execute(
        "INSERT INTO workers (id, name, host, pid, lanes, runs) VALUES (%s, %s, %s, %s, %s, %s::bytea[]) "
        "ON CONFLICT (id) DO UPDATE SET lanes = excluded.lanes, runs = excluded.runs, beat_at = clock()",
        [worker_id, name, host, pid, lanes, list(runs)],
    )


def retire(conn: Connection, worker_id: UUID) -> None:
    """Record that a worker process ended on its own accord."""
    conn.execute("UPDATE workers SET stopped_at = clock() WHERE id = %s", [worker_id])
