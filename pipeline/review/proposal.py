"""One proposal as a reviewer reads it: found by any of its names, with everything that a decision rests on."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.rows import dict_row, scalar_row
from artifacts.blobs import BlobStore, read_bodies
from contracts.errors import BadInput, NotFound
from queues.database import Connection, transaction

_PREFIX_DIGITS = 8
"""The fewest digits of an id that name a proposal."""

_BY_ID = "SELECT id FROM proposals WHERE id BETWEEN %(low)s AND %(high)s LIMIT 2"
_BY_ITEM = """
SELECT id
  FROM proposals
 WHERE item_id BETWEEN %(low)s AND %(high)s
 ORDER BY item_id, epoch DESC
 LIMIT 1
"""
_BY_ORDER = """
SELECT p.id
  FROM items i
  JOIN proposals p ON p.item_id = i.id
 WHERE i.order_id = %(low)s
 ORDER BY p.epoch DESC
 LIMIT 1
"""
_BY_TARGET = """
SELECT id
  FROM proposals
 WHERE target = %(target)s
 ORDER BY state IN ('open', 'approved') DESC, id DESC
 LIMIT 1
"""


def find_proposal(conn: Connection, workspace: UUID, text: str) -> UUID:
    """Return the proposal that a person means: its id or the beginning of it, an item, an order, or a subject key.

    Of an item, order or subject the newest one. Raises NotFound, and BadInput for an empty text or a shared beginning.
    """
    if not text.strip():
        raise BadInput(
            "the name of a proposal is empty: expected an id or a subject such as owner/repo#12",
            hint="shopfloor review inbox",
        )
    with transaction(conn, workspace):
        found = _by_id(conn, text) or _ids(conn, _BY_TARGET, {"target": text})
    if not found:
        raise NotFound(
            f"no proposal is {text[:80]!r}, begins with it in {_PREFIX_DIGITS} digits or more, or belongs to it",
            hint="shopfloor review inbox",
        )
    return found[0]


def _by_id(conn: Connection, text: str) -> list[UUID]:
    digits = text.replace("-", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_PREFIX_DIGITS},32}}", digits):
        return []
    bounds = {"low": UUID(digits.ljust(32, "0")), "high": UUID(digits.ljust(32, "f"))}
    found = _ids(conn, _BY_ID, bounds)
    if len(found) > 1:
        raise BadInput(
            f"several proposals begin with {text}: expected one",
            hint="give more digits: shopfloor review inbox",
            code="id.ambiguous",
        )
    if not found and len(digits) == 32:
        return _ids(conn, _BY_ITEM, bounds) or _ids(conn, _BY_ORDER, bounds)
    return found


def _ids(conn: Connection, query: str, values: Mapping[str, object]) -> list[UUID]:
    with conn.cursor(row_factory=scalar_row) as cursor:
        return cursor.execute(query, values).fetchall()


_ONE = """
SELECT p.id, p.item_id, p.order_id, p.action, p.target, p.adapter, p.sha256, p.epoch, p.finding, p.confidence,
       p.author, p.submitter, p.editors, p.state, p.created_at, p.expires_at,
       p.expires_at <= clock() AS expired,
       o.goal AS title,
       o.flow,
       c.id AS clearance_id,
       c.tier,
       c.needed,
       c.state AS clearance,
       c.opened_at,
       c.due_at
  FROM proposals p
  JOIN orders o ON o.id = p.order_id
  LEFT JOIN clearances c ON c.proposal_id = p.id
 WHERE p.id = %s
"""
_DECISIONS = """
SELECT a.name AS actor,
       d.decision,
       d.reason,
       d.decided_at,
       d.expires_at,
       a.disabled_at IS NOT NULL AS disabled
  FROM decisions d
  JOIN actors a ON a.id = d.actor_id
 WHERE d.clearance_id = %s
 ORDER BY d.id
"""
_OTHERS_ON_TARGET = """
SELECT id, action, state, finding
  FROM proposals
 WHERE target = %s AND state IN ('open', 'approved') AND id <> %s
 ORDER BY id
 LIMIT 20
"""
# Attempts that gave the same value left an artifact each: that of the proposal is the last one made before it.
_EVIDENCE = """
SELECT e.no, e.claim, e.stance, e.confidence, e.source
  FROM evidence e
 WHERE e.item_id = %(item)s
   AND e.artifact_id = (
     SELECT a.id
       FROM artifacts a
      WHERE a.item_id = %(item)s AND a.sha256 = %(sha256)s AND a.created_at <= %(proposed_at)s
      ORDER BY a.created_at DESC, a.id DESC
      LIMIT 1)
 ORDER BY e.no
 LIMIT 100
"""


def proposal_details(conn: Connection, store: BlobStore, workspace: UUID, proposal_id: UUID) -> dict[str, Any]:
    """Return all that a decision rests on: envelope, value, evidence beside its claim, decisions, others on the target."""
    with transaction(conn, workspace):
        found = _rows(conn, _ONE, [proposal_id])
        if not found:
            raise NotFound(f"no proposal {proposal_id} in this workspace", hint="shopfloor review inbox")
        one = found[0]
        envelope = _body(conn, store, one["item_id"], one["sha256"])
        sealed = json.loads(envelope)
        artifact = bytes.fromhex(sealed["artifact_sha256"])
        made = {"item": one["item_id"], "sha256": artifact, "proposed_at": one["created_at"]}
        return one | {
            "envelope_bytes": envelope,
            "envelope": sealed,
            "value": json.loads(_body(conn, store, one["item_id"], artifact)),
            "evidence": [row | {"source": json.loads(row["source"])} for row in _rows(conn, _EVIDENCE, made)],
            "decisions": _rows(conn, _DECISIONS, [one["clearance_id"]]),
            "others_on_target": _rows(conn, _OTHERS_ON_TARGET, [one["target"], proposal_id]),
        }


def must_not_decide(one: Mapping[str, Any]) -> dict[str, str]:
    """Return who may not decide on this proposal, each with why."""
    barred = {decided["actor"]: "has decided already" for decided in one["decisions"]}
    barred |= dict.fromkeys(one["editors"], "edited it")
    return barred | {one["submitter"]: "submitted the work", one["author"]: "wrote it"}


def _body(conn: Connection, store: BlobStore, item: UUID, sha256: bytes) -> bytes:
    try:
        return read_bodies(conn, store, [(item, sha256)])[item, sha256]
    except KeyError:
        raise NotFound(
            f"the bytes {sha256.hex()} of item {item} are missing or damaged: nothing can be decided on them",
            hint="shopfloor doctor --strict",
            code="artifact.missing",
        ) from None


def _rows(conn: Connection, query: str, values: Sequence[object] | Mapping[str, object]) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()
