"""The inbox: which proposals wait for people, in the order of trust, and everything that one of them rests on."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as fields_of
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import TupleRow, dict_row
from artifacts.blobs import BlobStore, read_bodies
from contracts.errors import BadInput, NotFound
from queues.database import Connection, transaction

RECORD_DAYS = 30
"""A finding's record counts the decisions of this many days."""
MOST = 2000
"""The most proposals that one look at the inbox goes through."""
_LEAST_PREFIX = 8


@dataclass(frozen=True, slots=True)
class Waiting:
    """One open proposal, with what its place in the inbox rests on."""

    id: UUID
    item_id: UUID
    target: str
    title: str
    finding: str
    action: str
    adapter: str
    confidence: float
    tier: str
    needed: int
    approvals: int
    author: str
    submitter: str
    editors: tuple[str, ...]
    sha256: bytes
    created_at: datetime
    expires_at: datetime
    approved_before: int
    rejected_before: int
    decided_by: tuple[str, ...]
    shape: str = ""

    def may_be_decided_by(self, actor: str) -> bool:
        """True when the actor neither wrote, submitted nor edited it, and has not answered yet."""
        return actor not in (self.author, self.submitter, *self.editors, *self.decided_by)


_FIELDS = tuple(part.name for part in fields_of(Waiting) if part.name != "shape")
# Ids are time-ordered: the record reads the newest decisions by primary key. (a+1)/(n+2) is the rule of succession:
# a finding without a record stands between one that people approve and one that they reject.
_OPEN = """
WITH record AS (
  SELECT p.finding, p.action, count(*) FILTER (WHERE d.decision = 'approve') AS yes,
         count(*) FILTER (WHERE d.decision = 'reject') AS no
    FROM decisions d JOIN proposals p ON p.id = d.proposal_id
   WHERE d.id >= id_floor(clock() - make_interval(days => %(days)s)) GROUP BY 1, 2)
SELECT p.id, p.item_id, p.target, o.goal, p.finding, p.action, p.adapter, p.confidence, c.tier, c.needed,
       (SELECT count(*) FROM decisions d WHERE d.clearance_id = c.id AND d.decision = 'approve') AS approvals,
       p.author, p.submitter, p.editors, p.sha256, p.created_at, p.expires_at, coalesce(r.yes, 0), coalesce(r.no, 0),
       ARRAY(SELECT a.name FROM decisions d JOIN actors a ON a.id = d.actor_id WHERE d.clearance_id = c.id ORDER BY 1)
  FROM proposals p JOIN clearances c ON c.proposal_id = p.id AND c.state = 'open' JOIN orders o ON o.id = p.order_id
  LEFT JOIN record r ON r.finding = p.finding AND r.action = p.action
 WHERE p.is_open AND p.expires_at > clock()
   AND (%(finding)s::text IS NULL OR p.finding = %(finding)s) AND (%(action)s::text IS NULL OR p.action = %(action)s)
 ORDER BY p.confidence DESC, (coalesce(r.yes, 0) + 1.0) / (coalesce(r.yes, 0) + coalesce(r.no, 0) + 2.0) DESC, p.id
 LIMIT %(most)s
"""


def waiting(
    conn: Connection,
    store: BlobStore,
    workspace: UUID,
    *,
    finding: str | None = None,
    action: str | None = None,
    most: int = MOST,
) -> list[Waiting]:
    """Return up to `most` open proposals: the surest first, then what people tend to approve, then the oldest."""
    with transaction(conn, workspace):
        rows = conn.execute(_OPEN, {"days": RECORD_DAYS, "finding": finding, "action": action, "most": most}).fetchall()
        bodies = read_bodies(conn, store, ((row[1], row[14]) for row in rows))
    found = []
    for row in rows:
        body = bodies.get((row[1], row[14]))
        shape = payload_shape(json.loads(body)["payload"]) if body is not None else "its bytes are missing"
        fields: dict[str, Any] = dict(zip(_FIELDS, row, strict=True))
        fields |= {"editors": tuple(fields["editors"]), "decided_by": tuple(fields["decided_by"])}
        found.append(Waiting(**fields, shape=shape))
    return found


def grouped(found: Sequence[Waiting]) -> list[list[Waiting]]:
    """Return proposals that ask for the same thing together, groups in the order of their most trusted member."""
    groups: dict[tuple[str, str, str, str, str], list[Waiting]] = {}
    for one in found:
        groups.setdefault((one.finding, one.action, one.adapter, one.tier, one.shape), []).append(one)
    return list(groups.values())


_WORD = re.compile(r"[A-Za-z0-9_.:/-]{1,40}")


def payload_shape(value: Any) -> str:
    """Return what a payload does, without its wording: names and single words stay, longer text becomes `…`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {payload_shape(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(sorted(payload_shape(part) for part in value)) + "]"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else "…"
    return json.dumps(value)


_BY_ID = "SELECT id FROM proposals WHERE id BETWEEN %(low)s AND %(high)s LIMIT 2"
_BY_ITEM = "SELECT id FROM proposals WHERE item_id BETWEEN %(low)s AND %(high)s ORDER BY item_id, epoch DESC LIMIT 1"
_BY_ORDER = """
SELECT p.id FROM items i JOIN proposals p ON p.item_id = i.id WHERE i.order_id = %(low)s ORDER BY p.epoch DESC LIMIT 1
"""
_LIVE = "SELECT id FROM proposals WHERE target = %s AND state IN ('open', 'approved') ORDER BY id DESC LIMIT 1"
_PAST = "SELECT id FROM proposals WHERE target = %s ORDER BY id DESC LIMIT 1"


def find_proposal(conn: Connection, workspace: UUID, text: str) -> UUID:
    """Return the proposal that a person means: its id or the beginning of it, an item, an order, or a subject key.

    Of an item, order or subject the newest one. Raises NotFound, and BadInput for an empty text or a shared beginning.
    """
    if not text.strip():
        raise BadInput("the name of a proposal is empty: expected an id or a subject such as owner/repo#12", hint="shopfloor review inbox")
    with transaction(conn, workspace):
        rows = _by_id(conn, text) or conn.execute(_LIVE, [text]).fetchall() or conn.execute(_PAST, [text]).fetchall()
    if not rows:
        raise NotFound(
            f"no proposal is {text[:80]!r}, begins with it in {_LEAST_PREFIX} digits or more, or belongs to it",
            hint="shopfloor review inbox",
        )
    found: UUID = rows[0][0]
    return found


def _by_id(conn: Connection, text: str) -> list[TupleRow]:
    digits = text.replace("-", "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{_LEAST_PREFIX},32}}", digits):
        return []
    bounds = {"low": UUID(digits.ljust(32, "0")), "high": UUID(digits.ljust(32, "f"))}
    rows = conn.execute(_BY_ID, bounds).fetchall()
    if len(rows) > 1:
        raise BadInput(
            f"several proposals begin with {text}: expected one", hint="give more digits: shopfloor review inbox", code="id.ambiguous"
        )
    if not rows and len(digits) == 32:
        rows = conn.execute(_BY_ITEM, bounds).fetchall() or conn.execute(_BY_ORDER, bounds).fetchall()
    return rows


_ONE = """
SELECT p.id, p.item_id, p.order_id, p.action, p.target, p.adapter, p.sha256, p.epoch, p.finding, p.confidence,
       p.author, p.submitter, p.editors, p.state, p.created_at, p.expires_at, p.expires_at <= clock() AS expired, o.goal AS title, o.flow,
       c.id AS clearance_id, c.tier, c.needed, c.state AS clearance, c.opened_at, c.due_at
  FROM proposals p JOIN orders o ON o.id = p.order_id LEFT JOIN clearances c ON c.proposal_id = p.id WHERE p.id = %s
"""
_DECISIONS = """
SELECT a.name AS actor, d.decision, d.reason, d.decided_at, d.expires_at, a.disabled_at IS NOT NULL AS disabled
  FROM decisions d JOIN actors a ON a.id = d.actor_id WHERE d.clearance_id = %s ORDER BY d.id
"""
_OTHERS = """
SELECT id, action, state, finding FROM proposals
 WHERE target = %s AND state IN ('open', 'approved') AND id <> %s ORDER BY id LIMIT 20
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
            "others_on_target": _rows(conn, _OTHERS, [one["target"], proposal_id]),
        }


def must_not_decide(one: Mapping[str, Any]) -> dict[str, str]:
    """Return who may not answer this proposal, each with why."""
    barred = {decided["actor"]: "has answered already" for decided in one["decisions"]}
    barred |= dict.fromkeys(one["editors"], "edited it")
    return barred | {one["submitter"]: "submitted the work", one["author"]: "wrote it"}


def _body(conn: Connection, store: BlobStore, item: UUID, sha256: bytes) -> bytes:
    try:
        return read_bodies(conn, store, [(item, sha256)])[item, sha256]
    except KeyError:
        raise NotFound(
            f"the bytes {sha256.hex()} of item {item} are missing or damaged: nothing can be decided on them",
            hint="shopfloor doctor --strict", code="artifact.missing",
        ) from None  # fmt: skip


def _rows(conn: Connection, query: str, values: Sequence[object] | Mapping[str, object]) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()
