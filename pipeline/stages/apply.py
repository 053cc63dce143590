"""Apply: change the target exactly as approved, in a process of its own.

Read the target → compare with the precondition → commit the intent → call the adapter with the action id → the
commit of this stage records the receipt. An apply whose outcome is unknown is probed before anything else.
"""

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from artifacts.shelf import Body
from contracts.attempts import Cause, is_exhausted
from contracts.canonical import canonical
from contracts.envelope import changed_fields
from contracts.errors import ShopfloorError, Unavailable
from contracts.identity import new_id
from contracts.lifecycle import DRIFT, Stage, Wait
from contracts.nouns import Finding
from contracts.proposals import ApplyState, ProposalState
from pipeline.failpoints import failpoint
from pipeline.stages.approved import Approved, load_approved
from pipeline.stages.context import StageContext
from pipeline.stages.products import finding_row
from pipeline.stages.retries import failed_attempt, failed_count
from pipeline.stages.work import ApplyEnd, Step, Work, leave, not_begun, onward, stay
from queues.database import transaction
from workcells.appliers import SendRefused, SendThrottled, SendUnknown, TargetMissing, TargetUnavailable

_INTEND = """
INSERT INTO applies (id, workspace_id, proposal_id, item_id, action_id, proposal_sha256,
                     adapter, idempotency_class, fence)
SELECT t.id, q.workspace_id, t.proposal_id, q.item_id, t.action_id, t.sha256, t.adapter, t.class, q.fence
  FROM unnest(%b::uuid[], %b::uuid[], %b::uuid[], %b::int[], %b::bytea[], %b::bytea[], %b::text[], %b::text[])
    AS t (id, item_id, proposal_id, fence, action_id, sha256, adapter, class)
  JOIN queue q ON q.item_id = ANY (ARRAY[t.item_id]) AND q.fence = t.fence AND q.state = 'leased'
RETURNING item_id, id
"""


def step(context: StageContext, works: Sequence[Work]) -> list[Step]:
    """Return for each item: applied and on to the archive, drifted, tried again later, or a person's task.

    When the group is late, those not begun go back to their lane.
    """
    approved, mismatches = load_approved(context, works)
    steps = {one.work.item_id: _failed(one.work, one.proposal_id, one.message, one.apply_id) for one in mismatches}
    ready = []
    for n, one in enumerate(approved):
        if n and context.pace.is_late():
            before: Step | None = not_begun(one.work)
        else:
            before = _recover(one) if one.apply_id else _compare(one)
        if before is None:
            ready.append(one)
        else:
            steps[one.work.item_id] = before
    failpoint("apply.observed")
    intents = _intend(context, [one for one in ready if one.apply_id is None])
    failpoint("apply.intent")
    for one in ready:
        intent = one.apply_id or intents.get(one.work.item_id)
        if not isinstance(intent, UUID):
            steps[one.work.item_id] = _not_intended(one, intent)
        elif one is not ready[0] and context.pace.is_late():
            steps[one.work.item_id] = _unsent(one, intent)
        else:
            steps[one.work.item_id] = _send(context, one, intent)
    if ready:
        failpoint("apply.sent")
    return [steps[work.item_id] for work in works]


def _compare(one: Approved) -> Step | None:
    """Return why nothing may be sent, or None when the target still is what the decision rested on."""
    if one.is_settled:
        return onward(one.work, Stage.ARCHIVE, Stage.ARCHIVE.value, note="applied, by a person's word", finding=one.finding)
    if not one.is_live:
        return _drifted(one, ProposalState.EXPIRED, "the approval no longer holds", {})
    declared = one.action.precondition
    try:
        seen = one.adapter.observe(one.action.target, sorted(declared))
    except Unavailable as error:
        return _later(one, error)
    except ShopfloorError as error:
        # The target is gone, or will never take this action: asking again is useless.
        return _failed(one.work, one.proposal_id, str(error), one.apply_id)
    changed = changed_fields(declared, seen)
    if changed:
        return _drifted(one, ProposalState.DRIFTED, f"the target changed in {', '.join(changed)}", seen)
    return None


def _drifted(one: Approved, state: ProposalState, message: str, seen: dict[str, Any]) -> Step:
    work = one.work
    observation = canonical({"target": one.action.target, "seen": seen})
    return leave(
        work, DRIFT, Stage.REWORK.value, note=message, cause=Cause.DRIFT, finding=one.finding,
        # An earlier intent that certainly had no effect ends with its proposal.
        applied=ApplyEnd(one.proposal_id, state, one.apply_id, ApplyState.FAILED if one.apply_id else None, canonical({"refused": message[:500]})),
        records=[
            finding_row(work, Finding(code=f"apply.{state}", message=message)),
            Body(work.item_id, hashlib.sha256(observation).digest(), work.claimed.workspace_id, observation),
        ],
    )  # fmt: skip


def _intend(context: StageContext, ready: Sequence[Approved]) -> dict[UUID, UUID | psycopg.Error]:
    """Commit the intents, each guarded by the database: approved, cleared, unexpired, same hash, lease still ours.

    Return by item the new apply, or why the database refused it; nothing for an item whose lease was lost.
    """
    if not ready:
        return {}
    try:
        with transaction(context.conn, {one.work.claimed.workspace_id for one in ready}, pipelined=True) as conn:
            rows = conn.execute(
                _INTEND,
                [
                    [new_id() for _ in ready],
                    [one.work.item_id for one in ready],
                    [one.proposal_id for one in ready],
                    [one.work.fence for one in ready],
                    [one.action_id for one in ready],
                    [one.sha256 for one in ready],
                    [one.adapter.name for one in ready],
                    [one.adapter.idempotency for one in ready],
                ],
                prepare=True,
            ).fetchall()
            return dict(rows)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UniqueViolation) as error:
        # One of them may not be applied (any more): each alone, so that it holds back no other.
        if len(ready) == 1:
            return {ready[0].work.item_id: error}
        return {item: apply_id for one in ready for item, apply_id in _intend(context, [one]).items()}


def _not_intended(one: Approved, refusal: psycopg.Error | None) -> Step:
    """Return what follows when no intent was recorded: nothing may be sent."""
    if isinstance(refusal, psycopg.errors.InsufficientPrivilege):
        # Refused by the guard: an approver is disabled, say. It is redone instead of asking here for ever.
        return _drifted(one, ProposalState.EXPIRED, "the approval no longer holds", {})
    if refusal is not None:
        return failed_attempt(one.work, Cause.TRANSIENT, "another apply of this action is recorded", one.ceilings)
    return stay(one.work, "give_back", note="the lease ended before the intent")


def _unsent(one: Approved, apply_id: UUID) -> Step:
    """Return an approved item to its lane, and withdraw the intent that this group made: it was certainly not acted on."""
    if one.apply_id:
        return not_begun(one.work)
    end = ApplyEnd(
        one.proposal_id,
        ProposalState.APPROVED,
        apply_id,
        ApplyState.FAILED,
        canonical({"withdrawn": "not sent: the items before it were slow"}),
    )
    return not_begun(one.work, applied=end)


def _send(context: StageContext, one: Approved, apply_id: UUID) -> Step:
    """Call the target once and return what its answer means."""
    if not context.lease_holds():
        return stay(one.work, "give_back", note="the lease ran out before the target was called")
    try:
        receipt = one.adapter.send(one.action, key=one.action_id.hex())
    except SendRefused as error:
        return _failed(one.work, one.proposal_id, str(error), apply_id)
    except TargetMissing as error:
        return _failed(one.work, one.proposal_id, str(error), apply_id)
    except SendUnknown as error:
        return _unknown(one, apply_id, str(error), after_seconds=error.retry_after_seconds)
    except TargetUnavailable as error:
        return _later(one, error)
    detail = canonical(
        {"adapter": receipt.adapter, "target": receipt.target, "key": receipt.key, "changed": receipt.changed, "detail": receipt.detail}
    )
    return _applied(one, apply_id, detail)


def _applied(one: Approved, apply_id: UUID, receipt: bytes) -> Step:
    end = ApplyEnd(one.proposal_id, ProposalState.APPLIED, apply_id, ApplyState.APPLIED, receipt)
    return onward(one.work, Stage.ARCHIVE, Stage.ARCHIVE.value, note="applied", finding=one.finding, applied=end)


def _failed(work: Work, proposal_id: UUID, message: str, apply_id: UUID | None) -> Step:
    receipt = canonical({"refused": message[:500]})
    return stay(
        work, "refuse", note=message[:300], finding="apply.failed",
        applied=ApplyEnd(proposal_id, ProposalState.FAILED, apply_id, ApplyState.FAILED, receipt),
        records=[finding_row(work, Finding(code="apply.failed", message=message[:500]))],
    )  # fmt: skip


def _recover(one: Approved) -> Step | None:
    """Learn what became of an earlier intent. None: it certainly had no effect, or doing it again is harmless."""
    assert one.apply_id is not None
    try:
        found = one.adapter.probe(one.action, key=one.action_id.hex(), seconds_since_sent=one.seconds_since_sent)
    except Unavailable as error:
        return _later(one, error)
    except ShopfloorError as error:
        return _unknown(one, one.apply_id, f"the target could not be asked: {error}")
    if found == "applied":
        return _applied(one, one.apply_id, canonical({"probed": "applied"}))
    if found == "absent":
        # It never took effect, and time has passed since the intent: what the decision rests on is compared again.
        return (
            _compare(one)
            if one.is_live
            else _failed(one.work, one.proposal_id, "the approval ended before the action was sent", one.apply_id)
        )
    if one.seconds_since_sent < one.adapter.settle_seconds:
        wait = one.adapter.settle_seconds - one.seconds_since_sent
        return stay(one.work, "retry", note="the target may still hide what was sent", delay_seconds=wait + 1)
    if one.adapter.idempotency in ("native", "convergent") and one.is_live:
        return None
    return _unknown(one, one.apply_id, "the target could not say whether the action was done")


def _later(one: Approved, error: ShopfloorError) -> Step:
    """Return another attempt for a target that did nothing now: when it says, if it wants fewer requests."""
    if isinstance(error, SendThrottled):
        return failed_attempt(one.work, Cause.THROTTLE, str(error), one.ceilings, after_seconds=error.retry_after_seconds)
    return failed_attempt(one.work, Cause.TRANSIENT, str(error), one.ceilings)


def _unknown(one: Approved, apply_id: UUID, message: str, *, after_seconds: float | None = None) -> Step:
    """Return a later probe while one may still tell, then a person's task. Nothing is ever sent blindly again."""
    failed = failed_count(one.work.claimed, Cause.TRANSIENT) + 1
    if one.adapter.idempotency != "none" and not is_exhausted(Cause.TRANSIENT, failed, one.ceilings):
        return failed_attempt(one.work, Cause.TRANSIENT, message, one.ceilings, after_seconds=after_seconds)
    return stay(
        one.work, "escalate", note=message[:300], wait=Wait.UNKNOWN, waiting_on="a person: look at the target, then apply probe or cancel",
        applied=ApplyEnd(one.proposal_id, ProposalState.UNKNOWN, apply_id, ApplyState.UNKNOWN, canonical({"unknown": message[:500]})),
    )  # fmt: skip
