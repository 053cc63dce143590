"""What became of approved proposals: each apply with its receipt, and a person's word where the effect is unknown."""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from artifacts.blobs import BlobStore, read_bodies
from contracts.errors import Conflict, Denied, NotFound
from contracts.lifecycle import Stage, State, move
from pipeline.access.refusals import Refusals, explain
from pipeline.access.tokens import token_sha256
from queues.audit import record_audit
from queues.board.dossier import decoded
from queues.database import Connection, transaction
from queues.marks import reset_attempts
from queues.mover import Planned, Route, perform

_LIST = """
SELECT a.id, a.state, p.action, p.target, a.adapter, p.finding, a.intent_at, a.finished_at, a.proposal_id, a.item_id
  FROM applies a JOIN proposals p ON p.id = a.proposal_id
 WHERE (%(state)s::text IS NULL OR a.state = %(state)s) AND (%(adapter)s::text IS NULL OR a.adapter = %(adapter)s)
   AND (%(before)s::uuid IS NULL OR a.id < %(before)s)
 ORDER BY a.id DESC LIMIT %(most)s
"""
_DUE = """
SELECT p.id, 'due' AS state, p.action, p.target, p.adapter, p.finding,
       NULL::timestamptz AS intent_at, NULL::timestamptz AS finished_at, p.id AS proposal_id, p.item_id
  FROM proposals p
 WHERE p.state = 'approved' AND (%(adapter)s::text IS NULL OR p.adapter = %(adapter)s)
   AND (%(before)s::uuid IS NULL OR p.id < %(before)s)
   AND NOT EXISTS (SELECT FROM applies a WHERE a.proposal_id = p.id)
 ORDER BY p.id DESC LIMIT %(most)s
"""


def applies(
    conn: Connection, workspace: UUID, *, state: str | None, adapter: str | None, before: UUID | None, most: int
) -> list[dict[str, Any]]:
    """Return applies older than `before`, the latest first; with state `due`, approved proposals not begun."""
    query = _DUE if state == "due" else _LIST
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        values = {"state": state, "adapter": adapter, "before": before, "most": most}
        return cursor.execute(query, values).fetchall()


_ONE = """
SELECT a.id, a.state, a.adapter, a.idempotency_class, a.action_id, a.proposal_sha256, a.intent_at, a.finished_at,
       a.receipt, a.fence, a.proposal_id, a.item_id, p.action, p.target, p.state AS proposal_state, p.finding,
       coalesce(q.stage, ar.stage) AS stage, coalesce(q.state, ar.state) AS item_state
  FROM applies a JOIN proposals p ON p.id = a.proposal_id
  LEFT JOIN queue q ON q.item_id = a.item_id LEFT JOIN archived_items ar ON ar.item_id = a.item_id
"""
_BY_APPLY = f"{_ONE} WHERE a.id = %(id)s"
_BY_PROPOSAL = f"{_ONE} WHERE a.proposal_id = %(id)s ORDER BY a.id DESC LIMIT 1"
_BY_ITEM = f"{_ONE} WHERE p.item_id = %(id)s ORDER BY a.id DESC LIMIT 1"
_BY_TARGET = f"{_ONE} WHERE p.target = %(id)s ORDER BY a.id DESC LIMIT 1"
_ENDS = """
SELECT m.no, l.move, m.fence, m.actor, m.reason, m.at FROM moves m JOIN legal_moves l ON l.number = m.legal
 WHERE m.item_id = %s AND 'apply' IN (l.from_stage, l.to_stage) ORDER BY m.no LIMIT 200
"""


def find_apply(conn: Connection, workspace: UUID, text: str) -> dict[str, Any]:
    """Return the apply that a person means: by its own id, its proposal's or item's, or its target. Raises NotFound."""
    is_id = re.fullmatch(r"[0-9a-fA-F]{32}", text.replace("-", ""))
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        for query in (_BY_APPLY, _BY_PROPOSAL, _BY_ITEM) if is_id else (_BY_TARGET,):
            row = cursor.execute(query, {"id": UUID(text) if is_id else text}).fetchone()
            if row is not None:
                return row
    raise NotFound(f"nothing was applied for {text[:80]!r}", hint="shopfloor apply list, or shopfloor apply list --state due")


def apply_details(conn: Connection, store: BlobStore, workspace: UUID, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return an apply with the exact envelope that was sent, its receipt and every move around it."""
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        moves = cursor.execute(_ENDS, [one["item_id"]]).fetchall()
        key = (one["item_id"], one["proposal_sha256"])
        body = read_bodies(conn, store, [key]).get(key)
    receipt = bytes(one["receipt"]) if one["receipt"] else None
    return dict(one) | {
        "envelope": json.loads(body) if body is not None else None,
        "receipt": decoded(receipt),
        "moves": moves,
    }


def probe_again(conn: Connection, workspace: UUID, one: Mapping[str, Any], *, by: str) -> str:
    """Make the item of an unfinished apply due, so that the apply lane asks the target before anything else; return the lane."""
    with transaction(conn, workspace):
        lane = _due(conn, one, by=by, note="asked to probe again")
        record_audit(conn, workspace, by=by, action="apply.probe", about=str(one["id"]))
    return lane


def resolve(conn: Connection, workspace: UUID, token: str, one: Mapping[str, Any], answer: str, reason: str, *, by: str) -> str:
    """Record a person's word, `applied` or `absent`, on an apply whose effect is not known; return the lane that goes on.

    Applied: the item is closed. Absent: it gets a fresh look and needs a new approval; nothing is sent a second time.
    """
    try:
        with transaction(conn, workspace):
            conn.execute("SELECT resolve_apply(%s, %s, %s, %s)", [token_sha256(token), one["id"], answer, reason])
            return _due(conn, one, by=by, note=f"{answer}, says {by}")
    except psycopg.Error as error:
        explain(error, _REFUSALS, "apply", one["id"])


_STANDS = "SELECT fence, stage, state, lane FROM queue WHERE item_id = %s FOR NO KEY UPDATE"


def _due(conn: Connection, one: Mapping[str, Any], *, by: str, note: str) -> str:
    stands = conn.execute(_STANDS, [one["item_id"]]).fetchone()
    if stands is None or stands[1] != Stage.APPLY or stands[2] == State.LEASED:
        seen = f"{stands[1]}/{stands[2]}" if stands else "no longer on the line"
        raise Conflict(f"item {one['item_id']} is {seen}", hint=f"shopfloor why {one['item_id']}", code="apply.moved")
    step = move("requeue", Stage.APPLY, State(stands[2]))
    perform(conn, [Planned(one["item_id"], stands[0], Route((step,), stands[3], (note,)))], by=by)
    reset_attempts(conn, [one["item_id"]])
    return str(stands[3])


_REFUSALS: Refusals = {
    "SF401": (Denied, "denied.token", "shopfloor login, or check SHOPFLOOR_TOKEN"),
    "SF403": (Denied, "denied.role", "ask an admin: shopfloor token new --actor NAME --role operator"),
    "SF404": (NotFound, "not_found", "shopfloor apply list"),
    "SF409": (Conflict, "apply.moved", "look again: shopfloor apply show {id}"),
}
