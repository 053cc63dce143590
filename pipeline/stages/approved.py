"""Approved proposals, loaded for the apply stage: what will be sent comes from the approved bytes and from nowhere else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import args_row
from artifacts.blobs import require_bodies
from contracts.attempts import Ceilings
from contracts.envelope import action_id, action_of, differing
from contracts.nouns import Action
from pipeline.stages.context import StageContext
from pipeline.stages.work import Work
from queues.database import transaction
from queues.predicates import UNCONFIRMED
from workcells.appliers import Applier


@dataclass(frozen=True, slots=True)
class Approved:
    """An approved proposal as stored: the action comes from the approved bytes and from nowhere else."""

    work: Work
    proposal_id: UUID
    sha256: bytes
    finding: str
    is_live: bool
    """True while the approval holds: approved, cleared, unexpired, by people who may still decide."""
    is_settled: bool
    """True when a person found, after an apply whose effect was not known, that it had been done."""
    action: Action
    action_id: bytes
    ceilings: Ceilings
    adapter: Applier
    apply_id: UUID | None
    """The intent of an earlier attempt whose end was never recorded."""
    seconds_since_sent: float


class Mismatch(NamedTuple):
    """An item whose proposal row repeats the approved bytes otherwise than they are."""

    work: Work
    proposal_id: UUID
    message: str
    apply_id: UUID | None


class _Stored(NamedTuple):
    """A proposal and its clearance as their rows have them."""

    item_id: UUID
    id: UUID
    sha256: bytes
    finding: str
    action: str
    adapter: str
    target: str
    epoch: int
    precondition_sha256: bytes
    expires_at: datetime
    is_live: bool
    is_settled: bool
    apply_id: UUID | None
    seconds_since_sent: float


_READ = f"""
SELECT DISTINCT ON (p.item_id)
       p.item_id, p.id, p.sha256, p.finding, p.action, p.adapter, p.target, p.epoch, p.precondition_sha256,
       p.expires_at,
       p.state = 'approved'
         AND c.state = 'cleared'
         AND p.expires_at > clock()
         AND (c.needed = 0 OR approvals_hold(p.id, c.needed)) AS is_live,
       p.state = 'applied' AS is_settled,
       a.id AS apply_id,
       coalesce(extract(epoch FROM clock() - a.intent_at), 0)::float8 AS seconds_since_sent
  FROM proposals p
 CROSS JOIN LATERAL (SELECT state, needed FROM clearances WHERE proposal_id = p.id OFFSET 0) c
  LEFT JOIN LATERAL (SELECT * FROM applies WHERE proposal_id = p.id OFFSET 0) a ON {UNCONFIRMED}
 WHERE p.item_id = ANY(%s)
 ORDER BY p.item_id, p.epoch DESC
"""


def load_approved(context: StageContext, works: Sequence[Work]) -> tuple[list[Approved], list[Mismatch]]:
    """Return what was approved for each item, and apart from it the items whose approved bytes are not what their rows say."""
    by_item = {work.item_id: work for work in works}
    with transaction(context.conn, {work.claimed.workspace_id for work in works}, pipelined=True):
        stored = context.conn.cursor(row_factory=args_row(_Stored)).execute(_READ, [list(by_item)], prepare=True).fetchall()
        envelopes = require_bodies(context.conn, context.store, ((one.item_id, one.sha256) for one in stored))
    approved, mismatches = [], []
    for one in stored:
        # require_bodies verified the bytes against the very hash that was approved.
        envelope = json.loads(envelopes[one.item_id, one.sha256])
        work = by_item[one.item_id]
        parts = differing(envelope, one.item_id, one.action, one.adapter, one.target, one.epoch, one.precondition_sha256, one.expires_at)
        if parts:
            message = f"the approved bytes and the proposal's row differ in {', '.join(parts)}"
            mismatches.append(Mismatch(work, one.id, message, one.apply_id))
            continue
        action = action_of(envelope)
        approved.append(
            Approved(
                work, one.id, one.sha256, one.finding, one.is_live, one.is_settled, action, action_id(one.sha256, action.target),
                context.ceilings(work), context.applier(envelope["adapter"]), one.apply_id, one.seconds_since_sent,
            )
        )  # fmt: skip
    return approved, mismatches
