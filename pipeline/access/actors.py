"""Accounts as an admin manages them: actors with their roles, brought in, listed and disabled, each act audited."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import class_row, dict_row
from contracts.errors import Conflict, NotFound
from pipeline.access.tokens import ensure_actor, token_sha256
from queues.audit import record_audit
from queues.database import Connection, one_value, transaction


class _Known(NamedTuple):
    kind: str
    disabled_at: datetime | None


def admit_actor(conn: Connection, workspace: UUID, name: str, *, kind: str, roles: Sequence[str], by: str, enable: bool = False) -> UUID:
    """Return the id of an actor who may act from now on, with at least `roles`; made if not there.

    Raises Conflict for a name that belongs to the other kind, and for a disabled actor without `enable`.
    """
    with transaction(conn, workspace):
        with conn.cursor(row_factory=class_row(_Known)) as cursor:
            known = cursor.execute("SELECT kind, disabled_at FROM actors WHERE name = %s FOR SHARE", [name]).fetchone()
        if known is not None and known.kind != kind:
            raise Conflict(f"{name} is a {known.kind}, not a {kind}", hint="choose another name", code="actor.kind")
        if known is not None and known.disabled_at is not None:
            if not enable:
                raise Conflict(f"{name} is disabled", hint="bring them back with --enable", code="actor.disabled")
            conn.execute("UPDATE actors SET disabled_at = NULL WHERE name = %s", [name])
            record_audit(conn, workspace, by=by, action="actor.enable", about=name)
        actor = ensure_actor(conn, workspace, name, kind=kind, roles=tuple(roles))
        if roles:
            record_audit(conn, workspace, by=by, action="actor.roles", about=name, payload=" ".join(sorted(roles)))
    return actor


def disable_actor(conn: Connection, workspace: UUID, name: str, *, by: str) -> None:
    """End every token of an actor and disable the account; their approvals that are not applied count no more."""
    with transaction(conn, workspace):
        actor = one_value(conn, "UPDATE actors SET disabled_at = coalesce(disabled_at, clock()) WHERE name = %s RETURNING id", [name])
        if actor is None:
            raise NotFound(f"no actor {name[:80]!r} in this workspace", hint="shopfloor token list")
        conn.execute("UPDATE tokens SET revoked_at = clock() WHERE actor_id = %s AND revoked_at IS NULL", [actor])
        record_audit(conn, workspace, by=by, action="actor.disable", about=name)


def roles_of(conn: Connection, token: str) -> tuple[str, ...]:
    """Return the roles of a token's actor; none for no token, or one that holds no more."""
    if not token:
        return ()
    return tuple(one_value(conn, "SELECT roles FROM actor_of(%s)", [token_sha256(token)]) or ())


def has_admin(conn: Connection, workspace: UUID) -> bool:
    """True when somebody in the workspace may already manage accounts."""
    query = "SELECT FROM roles r JOIN actors a ON a.id = r.actor_id WHERE r.role = 'admin' AND a.disabled_at IS NULL"
    with transaction(conn, workspace):
        return conn.execute(query).fetchone() is not None


_TOKENS = """
SELECT t.id, a.name AS actor, a.kind, ARRAY(SELECT r.role FROM roles r WHERE r.actor_id = a.id ORDER BY 1) AS roles,
       t.label, t.created_at, t.expires_at,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked' WHEN t.expires_at <= clock() THEN 'expired'
            WHEN a.disabled_at IS NOT NULL THEN 'disabled' ELSE 'live' END AS state
  FROM tokens t JOIN actors a ON a.id = t.actor_id
 WHERE %(every)s OR t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > clock()) AND a.disabled_at IS NULL
 ORDER BY a.name, t.id LIMIT %(most)s
"""


def tokens(conn: Connection, workspace: UUID, *, every: bool, most: int) -> list[dict[str, Any]]:
    """Return what may be known of tokens, those that hold no more with `every` alone; never a token or its hash."""
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_TOKENS, {"every": every, "most": most}).fetchall()
