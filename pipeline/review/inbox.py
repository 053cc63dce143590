"""The inbox: which proposals wait for reviewers, the most trusted first, and which of them ask for the same thing."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row
from artifacts.blobs import BlobStore, read_bodies
from queues.database import Connection, transaction

RECORD_DAYS = 30
"""A finding's record counts the decisions of this many days."""
INBOX_LIMIT = 2000
"""The most proposals that one reading of the inbox returns."""


@dataclass(frozen=True, slots=True)
class OpenProposal:
    """One proposal that waits for reviewers, with what its place in the inbox rests on."""

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
    editors: Sequence[str]
    sha256: bytes
    created_at: datetime
    expires_at: datetime
    approved_before: int
    rejected_before: int
    decided_by: Sequence[str]
    shape: str = ""
    """What its payload does, see `payload_shape`."""

    def may_be_decided_by(self, actor: str) -> bool:
        """True when the actor neither wrote, submitted nor edited it, and has not answered yet."""
        return actor not in (self.author, self.submitter, *self.editors, *self.decided_by)


# Ids are time-ordered: the record reads the newest decisions by primary key. (a+1)/(n+2) is the rule of succession:
# a finding without a record comes between one that people approve and one that they reject.
_OPEN = """
WITH record AS (
  SELECT p.finding,
         p.action,
         count(*) FILTER (WHERE d.decision = 'approve') AS approved,
         count(*) FILTER (WHERE d.decision = 'reject') AS rejected
    FROM decisions d
    JOIN proposals p ON p.id = d.proposal_id
   WHERE d.id >= id_floor(clock() - make_interval(days => %(days)s))
   GROUP BY p.finding, p.action),
open AS (
  SELECT p.id,
         p.item_id,
         p.target,
         o.goal AS title,
         p.finding,
         p.action,
         p.adapter,
         p.confidence,
         c.tier,
         c.needed,
         (SELECT count(*) FROM decisions d WHERE d.clearance_id = c.id AND d.decision = 'approve') AS approvals,
         p.author,
         p.submitter,
         p.editors,
         p.sha256,
         p.created_at,
         p.expires_at,
         coalesce(r.approved, 0) AS approved_before,
         coalesce(r.rejected, 0) AS rejected_before,
         ARRAY(SELECT a.name
                 FROM decisions d
                 JOIN actors a ON a.id = d.actor_id
                WHERE d.clearance_id = c.id
                ORDER BY a.name) AS decided_by
    FROM proposals p
    JOIN clearances c ON c.proposal_id = p.id AND c.state = 'open'
    JOIN orders o ON o.id = p.order_id
    LEFT JOIN record r ON r.finding = p.finding AND r.action = p.action
   WHERE p.is_open
     AND p.expires_at > clock()
     AND (%(finding)s::text IS NULL OR p.finding = %(finding)s)
     AND (%(action)s::text IS NULL OR p.action = %(action)s))
SELECT *
  FROM open
 ORDER BY confidence DESC, (approved_before + 1.0) / (approved_before + rejected_before + 2.0) DESC, id
 LIMIT %(limit)s
"""


def read_inbox(
    conn: Connection,
    store: BlobStore,
    workspace: UUID,
    *,
    finding: str | None = None,
    action: str | None = None,
    limit: int = INBOX_LIMIT,
) -> list[OpenProposal]:
    """Return up to `limit` open proposals: the surest first, then what people tend to approve, then the oldest."""
    values = {"days": RECORD_DAYS, "finding": finding, "action": action, "limit": limit}
    with transaction(conn, workspace):
        with conn.cursor(row_factory=class_row(OpenProposal)) as cursor:
            found = cursor.execute(_OPEN, values).fetchall()
        bodies = read_bodies(conn, store, ((one.item_id, one.sha256) for one in found))
    return [replace(one, shape=_shape_of(bodies.get((one.item_id, one.sha256)))) for one in found]


def _shape_of(envelope: bytes | None) -> str:
    return "its bytes are missing" if envelope is None else payload_shape(json.loads(envelope)["payload"])


def group_proposals(found: Sequence[OpenProposal]) -> list[list[OpenProposal]]:
    """Return proposals that ask for the same thing together, groups in the order of their most trusted member."""
    groups: dict[tuple[str, str, str, str, str], list[OpenProposal]] = {}
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
