"""Actors and tokens: who acts, what they may do, and how they prove it."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row
from contracts.errors import BadInput, Denied, NotFound
from contracts.identity import new_id
from queues.audit import record_audit
from queues.database import Connection, one_value, transaction

ROLES = ("submitter", "reviewer", "operator", "author", "reader", "admin")
TOKEN_PREFIX = "shf_"  # noqa: S105 - what every token starts with
LOG_IN = "unset SHOPFLOOR_TOKEN where it is set, for it goes before a login; then: shopfloor login"
"""What to do about a token that proves nothing."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody, or a service, with a name in one workspace."""

    workspace_id: UUID
    id: UUID
    name: str
    kind: str
    roles: Sequence[str]


def token_sha256(token: str) -> bytes:
    """Return what the database keeps of a token."""
    # Whatever bytes stand in the environment are a token: one that nobody has.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def ensure_actor(conn: Connection, workspace: UUID, name: str, *, kind: str, roles: tuple[str, ...]) -> UUID:
    """Return the id of an actor, made if it was not there; its roles grow to at least `roles`."""
    unknown = set(roles) - set(ROLES)
    if unknown:
        raise BadInput(f"no such role: {', '.join(sorted(unknown))}; expected some of {', '.join(ROLES)}")
    with transaction(conn, workspace):
        conn.execute(
            "INSERT INTO actors (id, workspace_id, name, kind) VALUES (%s, %s, %s, %s) ON CONFLICT (workspace_id, name) DO NOTHING",
            [new_id(), workspace, name, kind],
        )
        actor: UUID = one_value(conn, "SELECT id FROM actors WHERE workspace_id = %s AND name = %s", [workspace, name])
        for role in roles:
            conn.execute(
                "INSERT INTO roles (workspace_id, actor_id, role) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", [workspace, actor, role]
            )
    return actor


class IssuedToken(NamedTuple):
    """A token as its holder gets it, with the id that ends it."""

    id: UUID
    text: str


def issue_token(conn: Connection, workspace: UUID, actor: UUID, *, label: str, by: str, days: int | None = None) -> str:
    """Return a new token of an actor. Only its hash is stored: it cannot be shown again."""
    return issue(conn, workspace, actor, label=label, by=by, days=days).text


def issue(conn: Connection, workspace: UUID, actor: UUID, *, label: str, by: str, days: int | None = None) -> IssuedToken:
    """Return a new token of an actor, with its id."""
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token_id = new_id()
    with transaction(conn, workspace):
        conn.execute(
            """
            INSERT INTO tokens (id, workspace_id, actor_id, sha256, label, expires_at)
            VALUES (%s, %s, %s, %s, %s, clock() + make_interval(days => %s))
            """,
            [token_id, workspace, actor, token_sha256(token), label, days],
        )
        record_audit(conn, workspace, by=by, action="token.new", about=str(token_id), payload=label)
    return IssuedToken(token_id, token)


_ACTOR_OF = """
SELECT workspace_id, actor_id AS id, actor AS name, kind, roles
  FROM actor_of(%s)
"""


def actor_of(conn: Connection, token: str) -> Actor:
    """Return whose token it is. Raises Denied for one that is unknown, expired or revoked."""
    with conn.cursor(row_factory=class_row(Actor)) as cursor:
        actor = cursor.execute(_ACTOR_OF, [token_sha256(token)]).fetchone()
    if actor is None:
        raise Denied(
            "the token is unknown, expired or revoked, or its actor is disabled",
            hint=LOG_IN,
            code="denied.token",
        )
    return actor


def revoke_token(conn: Connection, workspace: UUID, token_id: UUID, *, by: str) -> None:
    """End a live token. Raises NotFound."""
    with transaction(conn, workspace):
        done = conn.execute(
            "UPDATE tokens SET revoked_at = clock() WHERE id = %s AND workspace_id = %s AND revoked_at IS NULL", [token_id, workspace]
        )
        if not done.rowcount:
            raise NotFound(f"no live token {token_id} in this workspace", hint="shopfloor token list")
        record_audit(conn, workspace, by=by, action="token.revoke", about=str(token_id))
