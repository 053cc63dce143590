"""Rows of worker processes: who lives, where, and which lanes it serves."""

from uuid import UUID

from queues.database import Connection


def register(conn: Connection, worker_id: UUID, *, name: str, host: str, pid: int, lanes: list[str]) -> None:
    """Record a worker process as alive, or replace the lanes that it serves."""
    conn.execute(
        "INSERT INTO workers (id, name, host, pid, lanes) VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (id) DO UPDATE SET lanes = excluded.lanes, beat_at = clock()",
        [worker_id, name, host, pid, lanes],
    )


def retire(conn: Connection, worker_id: UUID) -> None:
    """Record that a worker process ended on its own accord."""
    conn.execute("UPDATE workers SET stopped_at = clock() WHERE id = %s", [worker_id])
