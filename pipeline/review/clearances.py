"""Decisions: a person's answer to a proposal, and the move that follows from it, in one transaction.

The database's function `decide` resolves the actor from the token and alone says whether that person may answer.
Nothing here can approve anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import psycopg
from contracts.errors import Conflict, Denied, NotFound, ShopfloorError, Unavailable
from contracts.identity import new_id
from contracts.lifecycle import APPROVE, REJECT, RETURN, Stage, State, lane_of
from contracts.proposals import ClearanceState
from pipeline.access.refusals import Refusals, explain
from pipeline.access.tokens import token_sha256
from queues.database import Connection, transaction
from queues.marks import await_second_approval
from queues.mover import Planned, Route, perform


class Answer(StrEnum):
    """What a person may say to a proposal."""

    APPROVE = "approve"
    REJECT = "reject"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Ballot:
    """One answer to be given: to which proposal, and to exactly which bytes."""

    proposal_id: UUID
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """What one answer came to. `error` says why it was not taken; then nothing changed."""

    proposal_id: UUID
    item_id: UUID | None = None
    state: str = ""
    """The clearance afterwards: `cleared`, `refused`, `returned`, or `open` while another person is needed."""
    lane: str = ""
    """Lane that the item went to; empty when it stays or has ended."""
    error: ShopfloorError | None = None


# The item's row first, then clearance and proposal: cancel and the sweeper lock in the same order.
_LOCK = "SELECT item_id, fence, stage, state FROM queue WHERE item_id = %s FOR NO KEY UPDATE"
_READ = """
SELECT p.item_id, p.adapter, p.target, c.id, c.needed
  FROM proposals p LEFT JOIN clearances c ON c.proposal_id = p.id WHERE p.id = %s
"""
_NOTE = """
INSERT INTO findings (item_id, id, workspace_id, fence, stage, code, message, at)
VALUES (%s, %s, %s, %s, 'qa', 'review.returned', %s, clock())
"""


def decide_all(
    conn: Connection, workspace: UUID, token: str, ballots: Iterable[Ballot], answer: Answer, reason: str, *, by: str, dry_run: bool = False
) -> list[Decided]:
    """Give the same answer to each ballot, a transaction each, and return what each came to, in order.

    `conn` is a connection as the role review. An answer that is refused stops none of the others. A `dry_run` does it all and
    takes it back: what would be refused is refused.
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
    """Record one answer and move its item accordingly; both happen or neither, and neither in a `dry_run`.

    Raises NotFound, Conflict (stale, closed, expired, somebody was first) or Denied (this person may not decide).
    """
    if not token:
        raise Denied("nobody is logged in: a decision needs a person's token", hint="shopfloor login", code="denied.token")
    try:
        with transaction(conn, workspace), conn.transaction(force_rollback=dry_run):
            row = conn.execute(_READ, [ballot.proposal_id]).fetchone()
            if row is None or row[3] is None:
                raise NotFound(
                    f"no proposal {ballot.proposal_id} waits for a decision in this workspace",
                    hint="shopfloor review inbox",
                )
            item, adapter, target, clearance, needed = row
            stands = conn.execute(_LOCK, [item]).fetchone()
            answered = conn.execute(
                "SELECT decide(%s, %s, %s, %s, %s, %s)",
                [new_id(), token_sha256(token), clearance, ballot.sha256, answer.value, reason],
            ).fetchone()
            assert answered is not None
            state = ClearanceState(answered[0])
            if stands is None or (stands[2], stands[3]) != (Stage.QA, State.WAITING):
                seen = f"{stands[2]}/{stands[3]}" if stands else "no longer on the line"
                raise Conflict(
                    f"item {item} for {target} is {seen}: nothing waits for this decision",
                    hint=f"shopfloor why {item}",
                    code="review.moved",
                )
            lane = _follow(conn, workspace, item, stands[1], state, adapter, needed, reason, by)
            return Decided(ballot.proposal_id, item, state, lane)
    except psycopg.errors.DeadlockDetected:
        raise Conflict(
            f"somebody else was deciding on proposal {ballot.proposal_id} at the same time",
            hint="look again, then decide",
        ) from None
    except psycopg.Error as error:
        explain(error, _REFUSALS, "proposal", ballot.proposal_id)


def _follow(
    conn: Connection,
    workspace: UUID,
    item: UUID,
    fence: int,
    state: ClearanceState,
    adapter: str,
    needed: int,
    reason: str,
    by: str,
) -> str:
    """Move the item to where its clearance sends it and return the lane to ring; empty when nothing is due there."""
    if state is ClearanceState.OPEN:
        await_second_approval(conn, item, f"another reviewer than {by}; {needed} have to approve")
        return ""
    route = after_decision(state, adapter, reason[:300])
    if state is ClearanceState.RETURNED and reason:
        conn.execute(_NOTE, [item, new_id(), workspace, fence, reason])
    moved = perform(conn, [Planned(item, fence, route)], by=by)
    if moved.refused:
        raise Conflict(f"item {item} moved while it was being decided on", hint=f"shopfloor why {item}", code="review.moved")
    return "" if state is ClearanceState.REFUSED else route.lane


def after_decision(state: ClearanceState, adapter: str, note: str) -> Route:
    """Return where an item goes whose clearance was cleared, refused or returned."""
    return {
        ClearanceState.CLEARED: Route((APPROVE,), lane_of(Stage.APPLY, applier=adapter), (note,)),
        ClearanceState.REFUSED: Route((REJECT,), lane_of(Stage.QA), (note,), finding="rejected"),
        ClearanceState.RETURNED: Route((RETURN,), lane_of(Stage.REWORK), (note,)),
    }[state]


_REFUSALS: Refusals = {
    "SF401": (Denied, "denied.token", "shopfloor login, or check SHOPFLOOR_TOKEN"),
    "SF403": (Denied, "denied.review", "ask somebody else who holds the role reviewer; see: shopfloor whoami"),
    "SF404": (NotFound, "not_found", "shopfloor review inbox"),
    "SF409": (Conflict, "review.stale", "look again: shopfloor review show {id}"),
}
