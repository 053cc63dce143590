"""The audit log: one row for each act of a person or a service, written in the transaction of the act itself."""

from collections.abc import Sequence
from uuid import UUID

from queues.database import Connection

_RECORD = "SELECT record_audit(%s, %s, %s, %s, %s)"


def record_audit(conn: Connection, workspace: UUID | None, *, by: str, action: str, about: str, payload: str = "") -> None:
    """Record that `by` did `action` to `about`. Call inside the transaction that does it; None is for acts on every workspace."""
    conn.execute(_RECORD, [workspace, by, action, about, payload])


def record_audit_of_items(conn: Connection, workspace: UUID, *, by: str, action: str, items: Sequence[UUID], why: str) -> None:
    """Record one act on many items as one row: its payload is why, then the ids."""
    about = str(items[0]) if len(items) == 1 else f"{len(items)} items"
    payload = f"{why}\n{','.join(map(str, items))}".strip()
    record_audit(conn, workspace, by=by, action=f"steer.{action}", about=about, payload=payload)
