"""Decisions: a person's answer to a proposal and the move that follows from it, in one transaction.

The database's function `decide` resolves the actor from the token and alone decides whether that person may answer.
Nothing in this module can approve anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row, scalar_row
from contracts.errors import Conflict, Denied, NotFound, ShopfloorError, Unavailable
from contracts.identity import new_id
from contracts.lifecycle import APPROVE, REJECT, RETURN, Stage, State, lane_of
from contracts.proposals import ClearanceState
from pipeline.access.refusals import Refusals, explain
from pipeline.access.tokens import LOG_IN, token_sha256
from queues.database import Connection, transaction
from queues.marks import await_second_approval, lock_item
from queues.mover import Planned, Route, perform


class Answer(StrEnum):
    """What a person may decide about a proposal."""

    APPROVE = "approve"
    REJECT = "reject"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Ballot:
    """What is to be decided on: a proposal, and exactly its bytes."""

    proposal_id: UUID
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """The result of one decision. `error` says why it was refused; then nothing changed."""

    proposal_id: UUID
    item_id: UUID | None = None
    state: str = ""
    """The clearance afterwards: `cleared`, `refused`, `returned`, or `open` while another person is needed."""
    lane: str = ""
    """Lane that the item is ready in now; empty when it stays or has ended."""
    error: ShopfloorError | None = None


class _Pending(NamedTuple):
    """What a decision is about; a proposal that needs none has no clearance."""

    item_id: UUID
    adapter: str
    target: str
    clearance_id: UUID | None
    needed: int | None


_READ = """
SELECT p.item_id, p.adapter, p.target, c.id AS clearance_id, c.needed
  FROM proposals p
  LEFT JOIN clearances c ON c.proposal_id = p.id
 WHERE p.id = %s
"""
_DECIDE = "SELECT decide(%s, %s, %s, %s, %s, %s)"
_RECORD_REASON = """
INSERT INTO findings (item_id, id, workspace_id, fence, stage, code, message, at)
VALUES (%s, %s, %s, %s, 'qa', 'review.returned', %s, clock())
"""


def decide_all(
    conn: Connection, workspace: UUID, token: str, ballots: Iterable[Ballot], answer: Answer, reason: str, *, by: str, dry_run: bool = False
) -> list[Decided]:
    """Give the same answer to each ballot, a transaction each, and return the results in order.

    `conn` is a connection as the role review. A refusal stops none of the others. A `dry_run` does everything and rolls it
    back, so that what would be refused is refused.
    """
    results = []
    for ballot in ballots:
        try:
            results.append(decide(conn, workspace, token, ballot, answer, reason, by=by, dry_run=dry_run))
        except ShopfloorError as error:
            if isinstance(error, Unavailable):
                raise
            results.append(Decided(ballot.proposal_id, error=error))
    return results


def decide(
    conn: Connection, workspace: UUID, token: str, ballot: Ballot, answer: Answer, reason: str, *, by: str, dry_run: bool = False
) -> Decided:
    """Record one decision and move its item in the same transaction; a `dry_run` rolls both back.

    Raises NotFound, Conflict (stale, closed, expired, somebody was first) or Denied (this person may not decide).
    """
    if not token:
        raise Denied("nobody is logged in: a decision needs a person's token", hint="shopfloor login", code="denied.token")
    try:
        with transaction(conn, workspace), conn.transaction(force_rollback=dry_run):
            pending = _pending(conn, ballot.proposal_id)
            # The item's row first, then clearance and proposal: cancel and the sweeper lock in the same order.
            locked = lock_item(conn, pending.item_id)
            values = [new_id(), token_sha256(token), pending.clearance_id, ballot.sha256, answer.value, reason]
            with conn.cursor(row_factory=scalar_row) as cursor:
                state = ClearanceState(str(cursor.execute(_DECIDE, values).fetchone()))
            if locked is None or (locked.stage, locked.state) != (Stage.QA, State.WAITING):
                seen = locked.place if locked else "no longer in progress"
                raise Conflict(
                    f"item {pending.item_id} for {pending.target} is {seen}: nothing waits for this decision",
                    hint=f"shopfloor why {pending.item_id}",
                    code="review.moved",
                )
            lane = _move_item(conn, workspace, pending, locked.fence, state, reason, by=by)
            return Decided(ballot.proposal_id, pending.item_id, state, lane)
    except psycopg.errors.DeadlockDetected:
        raise Conflict(
            f"somebody else was deciding on proposal {ballot.proposal_id} at the same time",
            hint="look again, then decide",
        ) from None
    except psycopg.Error as error:
        explain(error, _REFUSALS, "proposal", ballot.proposal_id)


def _pending(conn: Connection, proposal_id: UUID) -> _Pending:
    with conn.cursor(row_factory=class_row(_Pending)) as cursor:
        row = cursor.execute(_READ, [proposal_id]).fetchone()
    if row is None or row.clearance_id is None:
        raise NotFound(f"no proposal {proposal_id} waits for a decision in this workspace", hint="shopfloor review inbox")
    return row


def _move_item(
    conn: Connection, workspace: UUID, pending: _Pending, fence: int, state: ClearanceState, reason: str, *, by: str
) -> str:  # fmt: skip
    """Move the item to where its clearance sends it and return the lane to ring; empty when nothing is due there."""
    item = pending.item_id
    if state is ClearanceState.OPEN:
        await_second_approval(conn, item, f"another reviewer than {by}; {pending.needed} have to approve")
        return ""
    route = after_decision(state, pending.adapter, reason[:300])
    if state is ClearanceState.RETURNED and reason:
        conn.execute(_RECORD_REASON, [item, new_id(), workspace, fence, reason])
    moved = perform(conn, [Planned(item, fence, route)], by=by)
    if moved.refused:
        raise Conflict(f"item {item} moved while it was being decided on", hint=f"shopfloor why {item}", code="review.moved")
    return "" if state is ClearanceState.REFUSED else route.lane


def after_decision(state: ClearanceState, adapter: str, note: str) -> Route:
    """Return where the item of a cleared, refused or returned clearance goes."""
    return {
        ClearanceState.CLEARED: Route((APPROVE,), lane_of(Stage.APPLY, applier=adapter), (note,)),
        ClearanceState.REFUSED: Route((REJECT,), lane_of(Stage.QA), (note,), finding="rejected"),
        ClearanceState.RETURNED: Route((RETURN,), lane_of(Stage.REWORK), (note,)),
    }[state]


_REFUSALS: Refusals = {
    "SF401": (Denied, "denied.token", LOG_IN),
    "SF403": (Denied, "denied.review", "ask somebody else who holds the role reviewer; see: shopfloor whoami"),
    "SF404": (NotFound, "not_found", "shopfloor review inbox"),
    "SF409": (Conflict, "review.stale", "look again: shopfloor review show {id}"),
}
