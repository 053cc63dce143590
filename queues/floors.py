"""Floors as rows: which one is in force, and which ones were. A floor is in force until a newer one is published."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from queues.database import Connection


class FloorRow(NamedTuple):
    """One published floor; `body` is its canonical text."""

    workspace_id: UUID
    id: UUID
    sha256: bytes
    body: bytes
    published_at: datetime
    published_by: str


_NEWEST = """
SELECT f.workspace_id,
       f.id,
       f.sha256,
       f.body,
       f.published_at,
       f.published_by
  FROM unnest(workspaces_in_use()) AS w (id)
 CROSS JOIN LATERAL (SELECT * FROM floors WHERE workspace_id = w.id ORDER BY published_at DESC, id DESC LIMIT %s) f
 ORDER BY f.workspace_id, f.published_at DESC, f.id DESC
"""


def newest_floors(conn: Connection, *, each: int = 1) -> list[FloorRow]:
    """Return the newest `each` floors of every workspace of the transaction, newest first: the first is the one in force."""
    with conn.cursor(row_factory=class_row(FloorRow)) as cursor:
        return cursor.execute(_NEWEST, [each]).fetchall()


def lanes_in_force(conn: Connection) -> frozenset[str]:
    """Return the lanes of cells and adapters that flows of the floor in force use. Call inside a transaction over the workspace."""
    # Not at the top: YAML and the expression engine cost every command that reads no floor a tenth of a second.
    from contracts.floor import parse_floor

    floors = [parse_floor(row.body, f"floor {row.id}") for row in newest_floors(conn)]
    return frozenset(lane for floor in floors for lane in (*floor.cell_lanes, *floor.apply_lanes))
