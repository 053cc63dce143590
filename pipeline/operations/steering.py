"""Steering: requeue, rework, cancel and prune, one item or thousands at a time, with a result for each.

Nothing here interrupts a call to a target: what is being applied is left alone.
"""

from collections.abc import Sequence
from uuid import UUID

from contracts.errors import Conflict
from contracts.identity import new_id
from contracts.lifecycle import RETURN, Stage, State, Wait, lane_of, move
from pipeline.operations.acts import Act, ItemResult, LockedItem, carry_out
from queues.database import Connection
from queues.marks import file_dead
from queues.mover import Planned, Route

_NOTE_CHARS = 300
_VERBS = {"send_back": "rework"}
"""What people type for a move that has another name."""


def requeue(
    conn: Connection,
    workspace: UUID,
    items: Sequence[UUID],
    *,
    by: str,
    why: str,
    stagger_seconds: float = 0.0,
    dry_run: bool = False,
    dead_only: bool = False,
) -> list[ItemResult]:
    """Make items due now, or spread over `stagger_seconds`, with their attempts counted anew; dead ones are worked on again.

    With `dead_only` items that are not dead letters are refused.
    """
    gap_seconds = stagger_seconds / max(1, len(items) - 1)
    position = {item: k for k, item in enumerate(items)}

    def plan(item: LockedItem) -> Planned:
        if dead_only:
            _refuse_living(item)
        if item.wait in (Wait.APPROVAL, Wait.SECOND_APPROVAL):
            hint = f"shopfloor review show {item.item_id}, or shopfloor rework {item.item_id} --why WHAT"
            raise Conflict(f"{item.name} waits for a reviewer", hint=hint)
        return Planned(item.item_id, item.fence, _route(item, "requeue", why), delay_seconds=gap_seconds * position[item.item_id])

    return carry_out(conn, workspace, items, Act("requeue", by, why, "due", plan, is_new_run=True), dry_run=dry_run)


def rework(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[ItemResult]:
    """Send waiting items to rework, with why as a finding for the next attempt; open proposals end as superseded."""

    def plan(item: LockedItem) -> Planned:
        _refuse_in_flight(item)
        if not item.is_routed:
            raise Conflict(
                f"{item.name} was never routed to a cell: there is nothing to do again", hint=f"shopfloor requeue {item.item_id}"
            )
        if (item.stage, item.state) == (Stage.QA, State.WAITING):
            return Planned(item.item_id, item.fence, Route((RETURN,), lane_of(Stage.REWORK), (why[:_NOTE_CHARS],)))
        return Planned(item.item_id, item.fence, _route(item, "send_back", why, Stage.REWORK))

    act = Act("rework", by, why, "in rework", plan, before=_void_and_record_reason, is_new_run=True)
    return carry_out(conn, workspace, items, act, dry_run=dry_run)


def cancel(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[ItemResult]:
    """End items wherever no call to a target can be in flight; their open proposals and clearances end with them."""

    def plan(item: LockedItem) -> Planned:
        if (item.stage, item.state) == (Stage.APPLY, State.LEASED):
            hint = f"wait for its end, then look: shopfloor why {item.item_id}"
            raise Conflict(f"{item.name} is being applied right now: its call may be on its way", hint=hint)
        _refuse_in_flight(item)
        if item.state == State.DEAD:
            hint = f"shopfloor dead prune {item.item_id}, or shopfloor dead replay {item.item_id}"
            raise Conflict(f"{item.name} is a dead letter", hint=hint)
        return Planned(item.item_id, item.fence, _route(item, "cancel", why))

    return carry_out(conn, workspace, items, Act("cancel", by, why, "cancelled", plan, before=_void), dry_run=dry_run)


def prune(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[ItemResult]:
    """File dead letters away for good; their orders end `dead`, their history stays."""

    def plan(item: LockedItem) -> None:
        _refuse_living(item)
        _refuse_in_flight(item)

    return carry_out(conn, workspace, items, Act("prune", by, why, "pruned", plan, before=_file_away), dry_run=dry_run)


_VOID = "SELECT void_proposals(%s, %s)"
_RECORD_REASON = """
INSERT INTO findings (item_id, id, workspace_id, fence, stage, code, message, at)
SELECT t.item_id, t.id, %s, t.fence, t.stage, 'operator.returned', %s, clock()
  FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::text[]) AS t (item_id, id, fence, stage)
"""


def _void(conn: Connection, _workspace: UUID, items: Sequence[LockedItem], _why: str) -> None:
    conn.execute(_VOID, [[item.item_id for item in items], "cancelled"])


def _file_away(conn: Connection, workspace: UUID, items: Sequence[LockedItem], why: str) -> None:
    _void(conn, workspace, items, why)
    file_dead(conn, [item.item_id for item in items])


def _void_and_record_reason(conn: Connection, workspace: UUID, items: Sequence[LockedItem], why: str) -> None:
    ids = [item.item_id for item in items]
    conn.execute(_VOID, [ids, "superseded"])
    fences, stages = [item.fence for item in items], [item.stage for item in items]
    conn.execute(_RECORD_REASON, [workspace, why, ids, [new_id() for _ in items], fences, stages])


def _refuse_in_flight(item: LockedItem) -> None:
    if item.in_flight:
        raise Conflict(
            f"{item.name} has an apply of unknown effect: find out first what it did",
            hint=f"shopfloor apply probe {item.item_id}",
            code="apply.unknown",
        )


def _refuse_living(item: LockedItem) -> None:
    if item.state != State.DEAD:
        raise Conflict(f"{item.name} is not a dead letter; it is {item.state}", hint=f"shopfloor why {item.item_id}", code="dead.not")


def _route(item: LockedItem, name: str, why: str, to: Stage | None = None) -> Route:
    try:
        step = move(name, Stage(item.stage), State(item.state), to)
    except KeyError:
        raise _no_such_move(item, _VERBS.get(name, name)) from None
    return Route((step,), to.value if to else item.lane, (why[:_NOTE_CHARS],))


def _no_such_move(item: LockedItem, verb: str) -> Conflict:
    hint = f"shopfloor why {item.item_id}"
    if item.state == State.LEASED:
        return Conflict(f"{item.name} is being worked on", hint=hint)
    if item.stage == Stage.INTAKE:
        return Conflict(f"{item.name} waits for its batch to be complete", hint=hint)
    return Conflict(f"{item.name} is {item.stage}/{item.state}: there is no {verb} from there", hint=hint)
