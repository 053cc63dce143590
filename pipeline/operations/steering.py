"""Steering: what operators do to items, one or thousands at a time, with a result for each.

Every verb locks its items in id order, says for each why it may not, and moves the rest in one statement a group.
Nothing here interrupts a call to a target: what is being applied is left alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from contracts.errors import Conflict, NotFound, ShopfloorError
from contracts.identity import new_id
from contracts.lifecycle import RETURN, Stage, State, Wait, lane_of, move
from queues.audit import record_audit_of_items
from queues.database import Connection, transaction
from queues.marks import reset_attempts
from queues.mover import Planned, Route, perform
from queues.predicates import EFFECT_IN_FLIGHT

CHUNK = 1000
"""Items that one transaction moves."""


class LockedItem(NamedTuple):
    """Where an item stands as it is steered."""

    item_id: UUID
    fence: int
    stage: str
    state: str
    lane: str
    wait: str | None
    is_routed: bool
    subject: str
    in_flight: bool
    """True when an apply was begun whose effect is not known."""

    @property
    def name(self) -> str:
        """The item in a message."""
        return f"item {self.item_id} ({self.subject[:80]})"


@dataclass(frozen=True, slots=True)
class Steered:
    """What became of one item; `error` says why nothing did."""

    item_id: UUID
    subject: str
    outcome: str = ""
    error: ShopfloorError | None = None


Before = Callable[[Connection, UUID, Sequence[LockedItem], str], None]


@dataclass(frozen=True, slots=True)
class Act:
    """One verb on many items: `plan` returns an item's move or raises why it may not."""

    name: str
    by: str
    why: str
    outcome: str
    plan: Callable[[LockedItem], Planned]
    before: Before | None = None
    """Written before the moves, in their transaction."""
    is_new_run: bool = False
    """True when the items get a new run of attempts."""


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
) -> list[Steered]:
    """Make items due now, or spread over `stagger_seconds`, with their attempts counted anew; dead ones live again.

    With `dead_only` what lives is refused.
    """
    gap = stagger_seconds / max(1, len(items) - 1)
    place = {item: k for k, item in enumerate(items)}

    def plan(stands: LockedItem) -> Planned:
        if dead_only and stands.state != State.DEAD:
            raise not_dead_error(stands.name, stands.state, stands.item_id)
        if stands.wait in (Wait.APPROVAL, Wait.SECOND_APPROVAL):
            hint = f"shopfloor review show {stands.item_id}, or shopfloor rework {stands.item_id}"
            raise Conflict(f"{stands.name} waits for a reviewer", hint=hint)
        return Planned(stands.item_id, stands.fence, _route(stands, "requeue", why), delay_seconds=gap * place[stands.item_id])

    return _steer(conn, workspace, items, Act("requeue", by, why, "due", plan, is_new_run=True), dry_run=dry_run)


def rework(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[Steered]:
    """Send waiting items to rework, with why as a finding for the next attempt; open proposals end as superseded."""

    def plan(stands: LockedItem) -> Planned:
        _refuse_in_flight(stands)
        if not stands.is_routed:
            again = f"shopfloor requeue {stands.item_id}"
            raise Conflict(f"{stands.name} was never routed to a cell: there is nothing to do again", hint=again)
        if (stands.stage, stands.state) == (Stage.QA, State.WAITING):
            return Planned(stands.item_id, stands.fence, Route((RETURN,), lane_of(Stage.REWORK), (why[:300],)))
        return Planned(stands.item_id, stands.fence, _route(stands, "send_back", why, Stage.REWORK))

    act = Act("rework", by, why, "in rework", plan, before=_void_and_record_reason, is_new_run=True)
    return _steer(conn, workspace, items, act, dry_run=dry_run)


def cancel(conn: Connection, workspace: UUID, items: Sequence[UUID], *, by: str, why: str, dry_run: bool = False) -> list[Steered]:
    """End items wherever no call to a target can be in flight; their open proposals and clearances end with them."""

    def plan(stands: LockedItem) -> Planned:
        if (stands.stage, stands.state) == (Stage.APPLY, State.LEASED):
            hint = f"wait for its end, then look: shopfloor why {stands.item_id}"
            raise Conflict(f"{stands.name} is being applied right now: its call may be on its way", hint=hint)
        _refuse_in_flight(stands)
        if stands.state == State.DEAD:
            hint = f"shopfloor dead prune {stands.item_id}, or shopfloor dead replay {stands.item_id}"
            raise Conflict(f"{stands.name} is a dead letter", hint=hint)
        return Planned(stands.item_id, stands.fence, _route(stands, "cancel", why))

    return _steer(conn, workspace, items, Act("cancel", by, why, "cancelled", plan, before=_end), dry_run=dry_run)


def _end(conn: Connection, _workspace: UUID, stood: Sequence[LockedItem], _why: str) -> None:
    conn.execute("SELECT void_proposals(%s, 'cancelled')", [[stands.item_id for stands in stood]])


_TELL = """
INSERT INTO findings (item_id, id, workspace_id, fence, stage, code, message, at)
SELECT t.item_id, t.id, %s, t.fence, t.stage, 'operator.returned', %s, clock()
  FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::text[]) AS t (item_id, id, fence, stage)
"""


def _void_and_record_reason(conn: Connection, workspace: UUID, stood: Sequence[LockedItem], why: str) -> None:
    ids = [stands.item_id for stands in stood]
    conn.execute("SELECT void_proposals(%s, 'superseded')", [ids])
    fences, stages = [stands.fence for stands in stood], [stands.stage for stands in stood]
    conn.execute(_TELL, [workspace, why, ids, [new_id() for _ in stood], fences, stages])


def _refuse_in_flight(stands: LockedItem) -> None:
    if stands.in_flight:
        raise Conflict(
            f"{stands.name} has an apply of unknown effect: ended now, it would be forgotten",
            hint=f"shopfloor apply probe {stands.item_id}",
            code="apply.unknown",
        )


def not_dead_error(name: str, state: str, item: UUID) -> Conflict:
    """Return the refusal to do to a living item what is for dead letters alone."""
    return Conflict(f"{name} is no dead letter but {state}", hint=f"shopfloor why {item}", code="dead.not")


def _route(stands: LockedItem, name: str, why: str, to: Stage | None = None) -> Route:
    try:
        step = move(name, Stage(stands.stage), State(stands.state), to)
    except KeyError:
        raise _cannot(stands, name) from None
    return Route((step,), to.value if to else stands.lane, (why[:300],))


def _cannot(stands: LockedItem, name: str) -> Conflict:
    hint = f"shopfloor why {stands.item_id}"
    if stands.state == State.LEASED:
        return Conflict(f"{stands.name} is being worked on", hint=hint)
    if stands.stage == Stage.INTAKE:
        return Conflict(f"{stands.name} waits for its batch to be complete", hint=hint)
    verb = {"send_back": "rework"}.get(name, name)
    return Conflict(f"{stands.name} is {stands.stage}/{stands.state}: {verb} is not for what stands there", hint=hint)


_LOCK = "SELECT FROM queue WHERE item_id = ANY(%s) ORDER BY item_id FOR NO KEY UPDATE"
# Read after the lock, in a statement of its own: one statement would see applies as they were before it waited.
_LOOK = f"""
SELECT q.item_id, q.fence, q.stage, q.state, q.lane, q.wait, q.contract_id IS NOT NULL, o.subject_key,
       {EFFECT_IN_FLIGHT}
  FROM queue q JOIN orders o ON o.id = q.order_id WHERE q.item_id = ANY(%s) ORDER BY q.item_id
"""
_GONE = """
SELECT i.id, o.subject_key, a.state FROM items i JOIN orders o ON o.id = i.order_id
  LEFT JOIN archived_items a ON a.item_id = i.id WHERE i.id = ANY(%s)
"""


def _steer(conn: Connection, workspace: UUID, items: Sequence[UUID], act: Act, *, dry_run: bool) -> list[Steered]:
    """Carry an act out, a chunk to a transaction, and return what became of each item in the order asked for."""
    results: dict[UUID, Steered] = {}
    for start in range(0, len(items), CHUNK):
        chunk = list(items[start : start + CHUNK])
        with transaction(conn, workspace):
            if not dry_run:
                conn.execute(_LOCK, [chunk])
            stood = [LockedItem(*row) for row in conn.execute(_LOOK, [chunk])]
            able: list[tuple[LockedItem, Planned]] = []
            for stands in stood:
                try:
                    able.append((stands, act.plan(stands)))
                except ShopfloorError as error:
                    results[stands.item_id] = Steered(stands.item_id, stands.subject, error=error)
            results |= _not_on_line(conn, set(chunk) - {stands.item_id for stands in stood})
            if able and not dry_run:
                _carry_out(conn, workspace, able, act)
        said = f"would be {act.outcome}" if dry_run else act.outcome
        results |= {stands.item_id: Steered(stands.item_id, stands.subject, said) for stands, _ in able}
    return [results[item] for item in items]


def _carry_out(conn: Connection, workspace: UUID, able: Sequence[tuple[LockedItem, Planned]], act: Act) -> None:
    stood = [stands for stands, _ in able]
    ids = [stands.item_id for stands in stood]
    if act.before:
        act.before(conn, workspace, stood, act.why)
    # The rows are locked: none of these can be late.
    perform(conn, [wish for _, wish in able], by=act.by)
    if act.is_new_run:
        reset_attempts(conn, ids)
    record_audit_of_items(conn, workspace, by=act.by, action=act.name, items=ids, why=act.why)


def _not_on_line(conn: Connection, items: set[UUID]) -> dict[UUID, Steered]:
    """Return for each item that has no queue row whether it ended, and how, or never was."""
    if not items:
        return {}
    found: dict[UUID, Steered] = {}
    for item, subject, state in conn.execute(_GONE, [list(items)]):
        said = f"item {item} ({subject[:80]}) has ended {state or 'meanwhile'}"
        found[item] = Steered(item, subject, error=Conflict(said, hint=f"shopfloor history {item}", code="item.ended"))
    for item in items - found.keys():
        found[item] = Steered(item, "", error=NotFound(f"no item {item} in this workspace", hint="shopfloor items"))
    return found
