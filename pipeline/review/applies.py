"""Applies: what was sent for approved proposals, what came back, and a person's answer where the effect is unknown."""

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from artifacts.blobs import BlobStore, read_bodies
from contracts.errors import BadInput, Conflict, Denied, NotFound
from contracts.lifecycle import Stage, State, move
from contracts.proposals import ProposalState
from pipeline.access.refusals import Refusals, explain
from pipeline.access.tokens import LOG_IN, token_sha256
from queues.audit import record_audit
from queues.board.dossier import decoded
from queues.database import Connection, transaction
from queues.marks import lock_item, reset_attempts
from queues.mover import Planned, Route, perform

_LIST = """
SELECT *
  FROM (
    (SELECT a.id,
            a.state,
            p.action,
            p.target,
            a.adapter,
            p.finding,
            a.intent_at,
            a.finished_at,
            a.proposal_id,
            a.item_id
       FROM applies a
       JOIN proposals p ON p.id = a.proposal_id
      WHERE (%(state)s::text IS NULL OR a.state = %(state)s)
        AND (%(adapter)s::text IS NULL OR a.adapter = %(adapter)s)
        AND (%(before)s::uuid IS NULL OR a.id < %(before)s)
      ORDER BY a.id DESC
      LIMIT %(limit)s)
    UNION ALL
    -- Approved, and nothing was sent: not yet, or never.
    (SELECT p.id,
            CASE p.state WHEN 'approved' THEN 'due' ELSE p.state END,
            p.action,
            p.target,
            p.adapter,
            p.finding,
            NULL,
            NULL,
            p.id,
            p.item_id
       FROM proposals p
       JOIN clearances c ON c.proposal_id = p.id AND c.state = 'cleared'
      WHERE p.state = ANY (%(unsent)s)
        AND (%(adapter)s::text IS NULL OR p.adapter = %(adapter)s)
        AND (%(before)s::uuid IS NULL OR p.id < %(before)s)
        AND NOT EXISTS (SELECT FROM applies a WHERE a.proposal_id = p.id)
      ORDER BY p.id DESC
      LIMIT %(limit)s)
  ) AS both_kinds
 ORDER BY id DESC
 LIMIT %(limit)s
"""
_ENDED_UNSENT = (ProposalState.FAILED, ProposalState.DRIFTED, ProposalState.EXPIRED)
"""How an approved proposal ends of which nothing was sent: its target is gone, has changed, or the approval no longer held."""


def applies(
    conn: Connection, workspace: UUID, *, state: str | None, adapter: str | None, before: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Return up to `limit` applies older than `before`, the latest first.

    Approved proposals that ended without anything sent count as applies that have no intent. Those not begun are listed
    with the state `due` alone.
    """
    unsent = [ProposalState.APPROVED] if state == "due" else [end for end in _ENDED_UNSENT if state in (None, end)]
    values = {"state": state, "adapter": adapter, "before": before, "unsent": [str(end) for end in unsent], "limit": limit}
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(_LIST, values).fetchall()


# `why` is the finding that the end left; of an apply that was begun, its receipt says more.
_ONE = """
SELECT coalesce(a.id, p.id) AS id,
       coalesce(a.state, p.state) AS state,
       coalesce(a.adapter, p.adapter) AS adapter,
       a.idempotency_class,
       a.action_id,
       p.sha256 AS proposal_sha256,
       a.intent_at,
       a.finished_at,
       a.receipt,
       a.fence,
       p.id AS proposal_id,
       p.item_id,
       p.action,
       p.target,
       p.state AS proposal_state,
       p.finding,
       CASE
         WHEN a.id IS NULL THEN
           (SELECT f.message
              FROM findings f
             WHERE f.item_id = p.item_id AND f.code = 'apply.' || p.state AND f.at >= p.created_at
             ORDER BY f.at
             LIMIT 1)
       END AS why,
       coalesce(q.stage, r.stage) AS stage,
       coalesce(q.state, r.state) AS item_state
  FROM proposals p
  LEFT JOIN applies a ON a.proposal_id = p.id
  LEFT JOIN clearances c ON c.proposal_id = p.id
  LEFT JOIN queue q ON q.item_id = p.item_id
  LEFT JOIN archived_items r ON r.item_id = p.item_id
 WHERE {which}
   AND (a.id IS NOT NULL OR p.state = ANY (%(unsent)s) AND c.state = 'cleared')
 ORDER BY coalesce(a.id, p.id) DESC
 LIMIT 1
"""
_BY_ID = ("a.id = %(name)s", "p.id = %(name)s", "p.item_id = %(name)s")
_BY_TARGET = ("p.target = %(name)s",)


def find_apply(conn: Connection, workspace: UUID, text: str) -> dict[str, Any]:
    """Return the apply that a person means: by its own id, its proposal's or item's, or its target; of several the latest.

    Raises NotFound, and BadInput for an empty text.
    """
    if not text.strip():
        raise BadInput("the name of an apply is empty: expected an id or a subject such as owner/repo#12", hint="shopfloor apply list")
    is_id = re.fullmatch(r"[0-9a-fA-F]{32}", text.replace("-", ""))
    values = {"name": UUID(text) if is_id else text, "unsent": [str(end) for end in _ENDED_UNSENT]}
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        for which in _BY_ID if is_id else _BY_TARGET:
            row = cursor.execute(_ONE.format(which=which), values).fetchone()
            if row is not None:
                return row
    raise NotFound(f"nothing was applied for {text[:80]!r}", hint="shopfloor apply list, or shopfloor apply list --state due")


_MOVES = """
SELECT m.no, l.move, m.fence, m.actor, m.reason, m.at
  FROM moves m
  JOIN legal_moves l ON l.number = m.legal
 WHERE m.item_id = %s AND 'apply' IN (l.from_stage, l.to_stage)
 ORDER BY m.no
 LIMIT 200
"""


def apply_details(conn: Connection, store: BlobStore, workspace: UUID, one: Mapping[str, Any]) -> dict[str, Any]:
    """Return an apply with the exact envelope that was sent, its receipt and every move around it."""
    with transaction(conn, workspace), conn.cursor(row_factory=dict_row) as cursor:
        moves = cursor.execute(_MOVES, [one["item_id"]]).fetchall()
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
        lane = _make_due(conn, one, by=by, note="asked to probe again")
        record_audit(conn, workspace, by=by, action="apply.probe", about=str(one["id"]))
    return lane


def resolve(conn: Connection, workspace: UUID, token: str, one: Mapping[str, Any], answer: str, reason: str, *, by: str) -> str:
    """Record a person's answer, `applied` or `absent`, for an apply of unknown effect; return the lane to ring.

    Applied: the item is closed. Absent: it goes back to its cell and needs a new approval; nothing is sent a second time.
    """
    try:
        with transaction(conn, workspace):
            conn.execute("SELECT resolve_apply(%s, %s, %s, %s)", [token_sha256(token), one["id"], answer, reason])
            return _make_due(conn, one, by=by, note=f"{answer}, says {by}")
    except psycopg.Error as error:
        explain(error, _REFUSALS, "apply", one["id"])


def _make_due(conn: Connection, one: Mapping[str, Any], *, by: str, note: str) -> str:
    """Make the item of an apply due with its attempts counted anew, and return its lane. Raises Conflict when it is elsewhere."""
    item = one["item_id"]
    locked = lock_item(conn, item)
    if locked is None or locked.stage != Stage.APPLY or locked.state == State.LEASED:
        seen = locked.place if locked else "no longer in progress"
        raise Conflict(
            f"item {item} is {seen}: expected {Stage.APPLY}, and no worker on it",
            hint=f"shopfloor why {item}",
            code="apply.moved",
        )
    step = move("requeue", Stage.APPLY, State(locked.state))
    perform(conn, [Planned(item, locked.fence, Route((step,), locked.lane, (note,)))], by=by)
    reset_attempts(conn, [item])
    return locked.lane


_REFUSALS: Refusals = {
    "SF401": (Denied, "denied.token", LOG_IN),
    "SF403": (Denied, "denied.role", "ask an admin: shopfloor token new --actor NAME --role operator"),
    "SF404": (NotFound, "not_found", "shopfloor apply list"),
    "SF409": (Conflict, "apply.moved", "look again: shopfloor apply show {id}"),
}
